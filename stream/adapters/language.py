"""Language detection by py3langid, restricted to the languages that feeds are likely to carry."""

import re
from functools import cached_property
from typing import Any, Final

UNKNOWN: Final = "und"
COVERED: Final = (
    "ar", "bg", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id", "it", "ja", "ko",
    "lt", "lv", "nb", "nl", "pl", "pt", "ro", "ru", "sk", "sv", "th", "tr", "uk", "vi", "zh",
)  # fmt: skip
MAX_CHARACTERS: Final = 200
"""Enough to tell, and the time a text takes grows with its length; a body of a megabyte would stall the batch."""
UNSURE: Final = 0.1
"""Below this probability more answers are wrong than right; a text with nothing to go by, as `A`, has 1/35."""

_OURS: Final = {"no": "nb", "zxx": UNKNOWN}
"""The package's names for Norwegian, and for what is no language: figures, markup, a script that it does not cover."""
_SCRIPTS: Final = {
    **dict.fromkeys(("ar", "fa"), re.compile(r"[\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc]")),
    **dict.fromkeys(("bg", "ru", "uk"), re.compile(r"[\u0400-\u04ff]")),
    "el": re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]"),
    "he": re.compile(r"[\u0590-\u05ff\ufb1d-\ufb4f]"),
    "hi": re.compile(r"[\u0900-\u097f]"),
    "ja": re.compile(r"[\u3005\u3040-\u30ff\u3400-\u9fff\uff66-\uff9f]"),
    "ko": re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]"),
    "th": re.compile(r"[\u0e00-\u0e7f]"),
    "zh": re.compile(r"[\u3005\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003134f]"),
}
_LATIN: Final = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")


class LangidDetector:
    """Implements `LanguageDetector`. Loads its model at first use, about a second, by way of a temporary file."""

    def detect(self, text: str) -> str:
        """See `LanguageDetector.detect`."""
        start = text[:MAX_CHARACTERS]
        named, _ = self._identifier.classify(start)
        found = _OURS.get(named, named)
        # Letters that the model has never seen, as Cherokee, share bytes with Korean ones: it is sure that they are.
        return found if _SCRIPTS.get(found, _LATIN).search(start) else UNKNOWN

    @cached_property
    def _identifier(self) -> Any:
        # Half a second and numpy's arrays only where an article names no language.
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        every = LanguageIdentifier.from_model_file(MODEL_FILE)
        every.set_languages([*(code for code in COVERED if code != "nb"), *_OURS])
        # Made anew from the columns that are left, so that those of a hundred other languages do not stay: 24 MB.
        return LanguageIdentifier(
            every.nb_ptc, every.nb_pc, every.nb_classes, every.tk_nextmove, every.tk_output,
            norm_probs=True, min_confidence=UNSURE, tk_row=every.tk_row,
        )  # fmt: skip
