"""Rules that follow their file: a change is live with the next tick, after a broken one the old rules stay."""

from pathlib import Path

import structlog

from crosswind.errors import SettingsError
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.service.rules import load_rules

_log = structlog.get_logger(__name__)
Stamp = tuple[int, int, int]


class LiveRules:
    """The rules of a file, or the shipped ones; call it for those of now.

    Raises:
        SettingsError: from the first call only, when the file cannot be used.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rules: RuleSet | None = None
        self._stamp: Stamp | None = None

    def __call__(self) -> RuleSet:
        """The rules as the file has them now, or had them when it was last whole."""
        stamp = self._read_stamp()
        if self._rules is None:
            self._rules, self._stamp = load_rules(self._path), stamp
        elif stamp != self._stamp:
            self._stamp = stamp
            self._reload(self._rules)
        return self._rules

    def _reload(self, before: RuleSet) -> None:
        try:
            self._rules = load_rules(self._path)
        except SettingsError as error:
            _log.error("the changed rules are not used; the ones before stay", error=str(error)[:300])
            return
        _log.info("rules reloaded", version=self._rules.version, before=before.version)

    def _read_stamp(self) -> Stamp | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
