"""Translations beside a page and in a message: what is known is given at once, the rest is made in the background."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog
from sqlalchemy import Engine

from crosswind.errors import CrosswindError
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.translations import PostgresTranslations
from crosswind.stream.adapters.translation import OnnxTranslator
from crosswind.stream.service.translation import Headline, Translation, Translations, why

WAITING: Final = 200
"""Headlines that wait for translation at most; a reader who turns pages faster than that sees the rest next time."""
_log = structlog.get_logger(__name__)


class TranslationDesk:
    """Implements `Headlines`: one thread translates what was asked for, in turn. A failure is logged, never raised."""

    def __init__(self, translations: Translations) -> None:
        self._translations, self._lock = translations, threading.Lock()
        self._waiting: set[tuple[str, str, str]] = set()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="translation")

    def ask(self, run: str, article_ids: Sequence[str], target: str) -> Mapping[str, Translation]:
        """See `Headlines.ask`: one look into the database."""
        try:
            answers, lacking = self._translations.look(run, article_ids, target)
        except CrosswindError as error:
            _log.warning("translations could not be read", error=str(error)[:300])
            return {}
        with self._lock:
            room = WAITING - len(self._waiting)
            new = [one for one in lacking if (run, target, one.article_id) not in self._waiting][: max(0, room)]
            self._waiting |= {(run, target, one.article_id) for one in new}
        if new:
            self._pool.submit(self._make, run, new, target)
        return answers

    def close(self) -> None:
        """Drops what waits and ends the thread, when what is under way is done."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, run: str, lacking: Sequence[Headline], target: str) -> None:
        try:
            self._translations.complete(run, lacking, target)
        except Exception as error:  # the thread outlives whatever happens
            _log.warning("headlines could not be translated", target=target, articles=len(lacking), error=why(error))
        finally:
            with self._lock:
                self._waiting -= {(run, target, one.article_id) for one in lacking}


def open_translations(settings: Settings, engine: Engine) -> Translations | None:
    """The service over the configured translators; None: none are configured.

    Args:
        engine: one that can write.

    Raises:
        SettingsError: the folder is not there.
        BundleError: a translator in it cannot be read.
    """
    if settings.translators is None:
        return None
    translator = OnnxTranslator(settings.translators)
    _log.info("translators found", pairs=[f"{source}-{target}" for source, target in translator.pairs])
    return Translations(translator, PostgresTranslations(engine))
