"""Language detection by lingua, restricted to the languages that feeds are likely to carry."""

from lingua import IsoCode639_1, Language, LanguageDetectorBuilder

UNKNOWN = "und"
COVERED = (
    "ar", "bg", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id", "it", "ja", "ko",
    "lt", "lv", "nb", "nl", "pl", "pt", "ro", "ru", "sk", "sv", "th", "tr", "uk", "vi", "zh",
)  # fmt: skip
MAX_CHARACTERS = 400
"""Enough to tell; a body of a megabyte would stall the batch."""


class LinguaDetector:
    """Implements `LanguageDetector`. Loads its models at first use, about a second."""

    def __init__(self) -> None:
        languages = [Language.from_iso_code_639_1(getattr(IsoCode639_1, code.upper())) for code in COVERED]
        self._detector = LanguageDetectorBuilder.from_languages(*languages).with_low_accuracy_mode().build()

    def detect(self, text: str) -> str:
        """See `LanguageDetector.detect`."""
        found = self._detector.detect_language_of(text[:MAX_CHARACTERS])
        return found.iso_code_639_1.name.lower() if found else UNKNOWN
