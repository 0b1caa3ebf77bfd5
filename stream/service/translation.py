"""Translated headlines: what is known, what lacks, and what cannot be had. A missing language pair is said."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Protocol

import structlog

from crosswind.errors import CrosswindError

Broken = Callable[[str, int, Exception], None]
"""Told of a pair that cannot be used: its languages as in `de-en`, how many headlines go without, and why."""
CHUNK: Final = 64
"""Headlines that are translated and kept at a time when all that are stored are gone through."""
FAILURES: Final = 3
"""Chunks that a language may fail in. A text that a library cannot take spoils one; a damaged pair spoils all."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Translation:
    """An article's headline in another language. `text` None: there is no translator from `source` to `target`."""

    source: str
    target: str
    text: str | None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Headline:
    """A stored article's headline, with the translation that was kept of these very words, if there is one."""

    article_id: str
    title: str
    lang: str
    text: str | None = None
    model: str | None = None


class Translator(Protocol):
    """Translates between the language pairs that it was given."""

    def version(self, source: str, target: str) -> str | None:
        """The version of a pair's model; None: there is no such pair."""
        ...

    def translate(self, source: str, target: str, texts: Sequence[str]) -> list[str]:
        """One translation per text, in order. Blocking.

        Raises:
            ModelError: there is no such pair, or it cannot be used.
        """
        ...


class TranslationStore(Protocol):
    """Where translations are kept. Methods raise DatabaseError."""

    def headlines(self, run: str, article_ids: Sequence[str], target: str) -> list[Headline]:
        """Those of the articles that are stored."""
        ...

    def keep(self, run: str, target: str, found: Sequence[Headline]) -> None:
        """Keeps translations; those of articles that are gone, or say something else now, are not."""
        ...

    def untranslated(
        self, run: str, target: str, models: Mapping[str, str], limit: int, passed: Sequence[str] = ()
    ) -> list[str]:
        """Ids of the newest articles in some languages that have no translation by their language's model yet.

        Args:
            models: language -> version of the model that translates it.
            passed: ids that are not wanted.
        """
        ...


def why(error: Exception) -> str:
    """What may be said of an error: our own words; of a library's only its kind, since it may quote a text."""
    return str(error)[:300] if isinstance(error, CrosswindError) else type(error).__name__


def _log_broken(pair: str, articles: int, error: Exception) -> None:
    _log.warning("headlines could not be translated", pair=pair, articles=articles, error=why(error))


class Translations:
    """Implements looking up and translating over a translator and a store.

    Args:
        broken: told of pairs that cannot be used; logged unless given.
    """

    def __init__(self, translator: Translator, store: TranslationStore, broken: Broken = _log_broken) -> None:
        self._translator, self._store, self._broken = translator, store, broken

    def look(self, run: str, article_ids: Sequence[str], target: str) -> tuple[dict[str, Translation], list[Headline]]:
        """What can be said at once, by article id, and the headlines that have yet to be translated.

        Articles in the target language and empty headlines are in neither.
        """
        answers: dict[str, Translation] = {}
        lacking: list[Headline] = []
        for found in self._store.headlines(run, article_ids, target) if article_ids else ():
            if found.lang == target or not found.title.strip():
                continue
            version = self._translator.version(found.lang, target)
            if version is None:
                answers[found.article_id] = Translation(found.lang, target, None)
            elif found.text is not None and found.model == version:
                answers[found.article_id] = Translation(found.lang, target, found.text, version)
            else:
                lacking.append(found)
        return answers, lacking

    def translate(self, run: str, article_ids: Sequence[str], target: str) -> dict[str, Translation]:
        """As `look`, with what lacked translated and kept.

        Raises:
            DatabaseError: the store cannot be reached.
        """
        answers, lacking = self.look(run, article_ids, target)
        return answers | self.complete(run, lacking, target)

    def complete(self, run: str, lacking: Sequence[Headline], target: str) -> dict[str, Translation]:
        """Translates headlines, language by language, and keeps what came of it.

        Those of a pair that is there and cannot be used are left out: the other languages go on, `broken` is told.

        Raises:
            DatabaseError: the store cannot be reached.
        """
        answers: dict[str, Translation] = {}
        for lang, group in groupby(sorted(lacking, key=lambda found: found.lang), key=lambda found: found.lang):
            found = list(group)
            version = self._translator.version(lang, target)
            try:
                texts = self._translator.translate(lang, target, [headline.title for headline in found])
            except Exception as error:  # whatever a text or a damaged file does to the libraries
                self._broken(f"{lang}-{target}", len(found), error)
                continue
            pairs = list(zip(found, texts, strict=True))
            self._store.keep(run, target, [Headline(h.article_id, h.title, lang, t, version) for h, t in pairs])
            answers |= {h.article_id: Translation(lang, target, text, version) for h, text in pairs}
        return answers

    def ahead(self, run: str, target: str, models: Mapping[str, str], limit: int) -> int:
        """Translates and keeps stored headlines that have no translation yet, the newest first.

        Args:
            models: language -> version of the model that translates it.
            limit: translations to make at most. Headlines that cannot be translated do not count: those of a damaged
                pair would else take the places of all others, at every call.

        Returns:
            how many were translated.

        Raises:
            DatabaseError: the store cannot be reached.
        """
        left, failed, done = dict(models), Counter[str](), 0
        passed: list[str] = []
        while left and done < limit:
            ids = self._store.untranslated(run, target, left, limit - done, passed)
            if not ids:
                break
            for at in range(0, len(ids), CHUNK):
                chunk = ids[at : at + CHUNK]
                passed += chunk
                lacking = self.look(run, chunk, target)[1]
                made = self.complete(run, lacking, target)
                done += len(made)
                failed.update({one.lang for one in lacking if one.article_id not in made})
                if any(failed[lang] >= FAILURES for lang in left):
                    break  # what else was found may be of this language only
            left = {lang: model for lang, model in left.items() if failed[lang] < FAILURES}
        return done


class Headlines(Protocol):
    """What a page or a message asks for translations. It never waits long and never raises."""

    def ask(self, run: str, article_ids: Sequence[str], target: str) -> Mapping[str, Translation]:
        """What is known now, by article id."""
        ...


class NoHeadlines:
    """Implements `Headlines` where no translator is configured: nothing is translated, and nothing is said of it."""

    def ask(self, run: str, article_ids: Sequence[str], target: str) -> Mapping[str, Translation]:
        """See `Headlines.ask`."""
        return {}
