"""Rules as the pages and the API see them: what is in use, what a change would have said, and the saving of it."""

import contextlib
import fcntl
import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from crosswind.dashboard.queries import Reader
from crosswind.dashboard.stored import MOST_SERIES, buckets
from crosswind.errors import DataError, SettingsError
from crosswind.stream.domain.rules import Rule, RuleSet
from crosswind.stream.domain.series import MINUTE
from crosswind.stream.replay.preview import Buckets, preview
from crosswind.stream.service.rules import DEFAULT, load_rules, parse_rules, rule_set

DAYS: Final = 30
MAX_TEXT: Final = 100_000
MOST_FIRED: Final = 200
"""Alarms listed of one preview, the newest ones."""


@dataclass(frozen=True, slots=True)
class RuleOut:
    """One rule in use, in short."""

    name: str
    version: str
    detector: str
    at_most: float
    per: str
    kinds: list[str]


@dataclass(frozen=True, slots=True)
class RulesOut:
    """The rules in use.

    Attributes:
        text: the file as it is written, YAML.
        digest: of the text; saving asks for it, so that nobody's change is overwritten unseen.
        editable: whether they can be saved: they are a file of this machine that `CROSSWIND_RULES` names.
        problem: why the file cannot be used as it is now; the engine then goes on with what it had. None: it can.
    """

    version: str
    digest: str
    editable: bool
    rules: list[RuleOut]
    text: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Fired:
    """One alarm that rules would have raised."""

    at: datetime
    topic: str
    lang: str
    entity: str


@dataclass(frozen=True, slots=True)
class PreviewOut:
    """What rules would have said of the stored minutes of the last days.

    Attributes:
        days: looked at; `since` is where stored minutes begin within them.
        alarms: how many, `before`: how many of the rules in use; None where those cannot be used.
        fired: the newest of them, newest first.
        series: of most bad news that were looked at; `capped`: there may be more.
        cut: there were too many loud hours; the loudest were judged.
        checked: saving asks for it: nothing is saved that was not previewed.
    """

    version: str
    checked: str
    days: int
    since: datetime | None
    series: int
    capped: bool
    alarms: int
    before: int | None
    cut: bool
    fired: list[Fired]


class RulesDesk:
    """Methods block; they raise DataError for rules that cannot be used, DatabaseError when the database is away.

    Args:
        path: the file that the workers read; None: the shipped rules, which cannot be edited.
    """

    def __init__(self, reader: Reader, engine: Engine, path: Path | None) -> None:
        self._reader, self._engine, self._path = reader, engine, path
        self._busy = threading.Lock()

    def current(self) -> RulesOut:
        """The rules in use, as their file has them.

        Raises:
            DataError: it cannot be read.
        """
        text = self._text()
        try:
            found = rule_set(parse_rules(text.encode()))
        except SettingsError as error:
            return RulesOut("", digest(text), self._path is not None, [], text, str(error))
        return RulesOut(found.version, digest(text), self._path is not None, [_out(rule) for rule in found.rules], text)

    def in_use(self) -> RuleSet:
        """The rules at work; none where their file cannot be used or read."""
        try:
            return rule_set(parse_rules(self._text().encode()))
        except (DataError, SettingsError):
            return RuleSet((), "")

    def preview(self, text: str, days: int = DAYS) -> PreviewOut:
        """What these rules would have said, beside those in use. One at a time: it takes a core for seconds.

        Raises:
            DataError: they are no rules, or somebody else's preview is going on.
        """
        found = _parsed(text)
        if not self._busy.acquire(blocking=False):
            raise DataError("another preview is going on; try again in a few seconds")
        try:
            now = self._reader.status().now
            stored = buckets(self._engine, self._reader.run, now, days) if now else None
            if stored is None:
                return PreviewOut(found.version, digest(text), days, None, 0, False, 0, 0, False, [])
            said = preview(found, stored)
            fired = [Fired(at, series.topic, series.lang, series.entity) for at, series in said.fired]
            return PreviewOut(
                found.version, digest(text), days, _since(stored), len(stored.series),
                len(stored.series) >= MOST_SERIES, len(fired), self._before(stored), said.cut,
                sorted(fired, key=lambda one: one.at, reverse=True)[:MOST_FIRED],
            )  # fmt: skip
        finally:
            self._busy.release()

    def save(self, text: str, over: str, checked: str) -> RulesOut:
        """Writes the file that the workers follow, whole or not at all; they use it from their next tick on.

        Args:
            over: digest of the text that was edited; another one means that somebody saved meanwhile.
            checked: what a preview of this very text gave.

        Raises:
            DataError: they are no rules, were not previewed, the file changed meanwhile or cannot be written.
        """
        _parsed(text)
        if self._path is None:
            raise DataError("the shipped rules are in use: copy them with `crosswind rules show`, set CROSSWIND_RULES"
                            " to your file, and start again")  # fmt: skip
        if checked != digest(text):
            raise DataError("these rules were not previewed as they are now; preview them first")
        with _alone(self._path):  # of two who edited the same text, the second to come must find the first one's
            if over != digest(self._text()):
                raise DataError("the rules were changed meanwhile; load the page again and make your change anew")
            _write(self._path, text)
            return self.current()

    def _before(self, stored: Buckets) -> int | None:
        try:
            return len(preview(load_rules(self._path), stored).fired)
        except SettingsError:
            return None

    def _text(self) -> str:
        path = self._path or DEFAULT
        try:
            return path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"the rules in {path.name} cannot be read: {error}; see CROSSWIND_RULES") from None


def digest(text: str) -> str:
    """Of a text of rules; line ends of browsers and of files count as one."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()[:32]


def _parsed(text: str) -> RuleSet:
    if len(text) > MAX_TEXT:
        raise DataError(f"{len(text):,} characters of rules; {MAX_TEXT:,} at most")
    try:
        return rule_set(parse_rules(text.encode()))
    except (SettingsError, UnicodeEncodeError) as error:
        raise DataError(str(error)) from None


def _out(rule: Rule) -> RuleOut:
    budget = rule.budget
    kinds = [kind.value for kind in rule.match.kinds]
    return RuleOut(rule.name, rule.version, rule.detector.name, budget.at_most, budget.per.value, kinds)


def _since(stored: Buckets) -> datetime:
    return stored.start + int((stored.run > 0).argmax()) * MINUTE


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds the file against every other dashboard's saving, threads and processes alike.

    The lock is on a file beside it: the file itself is another one after each saving.
    """
    with contextlib.ExitStack() as held:
        try:
            lock = held.enter_context(path.with_name(f".{path.name}.lock").open("ab"))
            fcntl.flock(lock, fcntl.LOCK_EX)  # of this opening, not of the process; ends when it is closed
        except OSError as error:
            raise _unwritable(error) from None
        yield


def _write(path: Path, text: str) -> None:
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n", dir=path.parent, delete=False) as draft:
            draft.write(text.replace("\r\n", "\n"))
            draft.flush()
            os.fsync(draft.fileno())
        Path(draft.name).chmod(path.stat().st_mode & 0o777)
        os.replace(draft.name, path)
    except OSError as error:
        raise _unwritable(error) from None


def _unwritable(error: OSError) -> DataError:
    return DataError(f"the rules cannot be written: {error.strerror}; may the dashboard write there?")
