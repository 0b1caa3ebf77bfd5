"""Rule tests from a YAML file: input series, times, and the alerts that are expected to stand there."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from crosswind.errors import SettingsError
from crosswind.stream.domain.bucket import ALL
from crosswind.stream.domain.incident import State, Transition
from crosswind.stream.domain.memory import Memory
from crosswind.stream.domain.notice import Orders
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.domain.series import MINUTE, Counts, History, Mention, Series
from crosswind.stream.domain.universe import Universe
from crosswind.stream.domain.watch import RUN, Watch
from crosswind.stream.service.rules import YAML_LETS_THROUGH, Duration, Strict, duration, load_rules
from crosswind.structs import known

_VALUE = re.compile(r"(\d+)(?:([+-])(\d+))?(?:x(\d+))?")
LONGEST = 100 * 24 * 60
"""Minutes that a test may last."""


class Input(Strict, frozen=True):
    """Articles of one topic, language and set of entities.

    Attributes:
        articles, negative: counts per step, promtool's way: `3x60` is 3 for 60 steps, `2+1x5` is 2 3 4 5 6, and so on
            (the number after x is how many values there are in all).
        sources: how many outlets wrote the negative ones, in turn.
        copies: every negative article has the same headline.
        retold: every negative article tells the same story, each in a headline of its own.
    """

    articles: str
    negative: str
    topic: str = "credit"
    lang: str = "en"
    entities: tuple[str, ...] = ()
    sources: Annotated[int, Meta(ge=1)] = 10
    copies: bool = False
    retold: bool = False


class Wanted(Strict, frozen=True):
    """An alert that must stand; what is not written is not compared, but for `*`."""

    rule: str
    topic: str = ALL
    lang: str = ALL
    entity: str = ALL
    state: str = "firing"
    severity: str | None = None
    leads: bool | None = None


class Moment(Strict, frozen=True):
    """All alerts that stand (pending ones left out) at a time after the start."""

    at: Duration
    alerts: tuple[Wanted, ...] = ()


class Case(Strict, frozen=True):
    """One test."""

    name: str
    input: tuple[Input, ...]
    expect: tuple[Moment, ...]
    start: datetime = datetime(2026, 3, 2, tzinfo=UTC)
    every: Duration = "10m"


@known
class TestFile(Strict, frozen=True):
    """A file of rule tests, version 1; `rules` is a rule file beside it, or the shipped rules."""

    __test__ = False  # pytest takes classes with this name for tests

    version: Annotated[int, Meta(ge=1, le=1)]
    tests: tuple[Case, ...]
    rules: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One expectation of one test; `problem` is empty when it holds."""

    test: str
    at: str
    problem: str


def run_tests(path: Path) -> list[Outcome]:
    """Every expectation of a test file.

    Raises:
        SettingsError: a file cannot be read or used; says where.
    """
    try:
        found = msgspec.yaml.decode(path.read_bytes(), type=TestFile, strict=True)
    except OSError as error:
        raise SettingsError(f"cannot read the tests in {path}: {error.strerror or error}") from None
    except (msgspec.MsgspecError, *YAML_LETS_THROUGH, RecursionError) as error:
        raise SettingsError(f"{path} is no file of rule tests: {str(error) or type(error).__name__}") from None
    rules = load_rules(path.parent / found.rules if found.rules else None)
    return [outcome for case in found.tests for outcome in _run(case, rules)]


def values(text: str) -> list[int]:
    """Counts from promtool's notation.

    >>> values("3x2 0 1+2x3")
    [3, 3, 0, 1, 3, 5]

    Raises:
        SettingsError: it is something else.
    """
    found: list[int] = []
    for word in text.split():
        match = _VALUE.fullmatch(word)
        if not match:
            raise SettingsError(f"{word!r} is no count; write e.g. 3, 3x60 or 2+1x5")
        first, step = int(match[1]), int(match[3] or 0) * (-1 if match[2] == "-" else 1)
        times = int(match[4] or 1)
        if len(found) + times > LONGEST:
            raise SettingsError(f"a test lasts {LONGEST} steps at most")
        found += [max(0, first + step * n) for n in range(times)]
    return found


def _run(case: Case, rules: RuleSet) -> Iterator[Outcome]:
    start = case.start.astimezone(UTC)
    minutes = max((duration(moment.at) // MINUTE for moment in case.expect), default=0) + 1
    if minutes > LONGEST:
        raise SettingsError(f"test {case.name}: a test lasts {LONGEST // 1440} days at most")
    counts, mentions = _counts(case, start, minutes, duration(case.every) // MINUTE)
    run = counts[RUN][1]
    histories = {one: History.of(start, *counts[one], run, mentions[one]) for one in counts}
    orders = Orders(universe=_universe(counts, start).watched(rules))
    _, told = Watch("test", rules).over(histories, Memory(), start, start + (minutes - 1) * MINUTE, orders)
    for moment in case.expect:
        standing = _standing(told, start + duration(moment.at))
        yield Outcome(case.name, moment.at, _compare(standing, moment.alerts))


def _standing(told: Sequence[Transition], at: datetime) -> list[Transition]:
    latest = {change.incident.incident_id: change for change in told if change.at <= at}
    return [change for change in latest.values() if change.incident.state in (State.FIRING, State.NO_DATA)]


def _compare(standing: Sequence[Transition], wanted: Sequence[Wanted]) -> str:
    left, missing = list(standing), []
    for want in wanted:
        match = next((change for change in left if _fits(change, want)), None)
        if match is None:
            missing.append(f"{want.rule} {want.topic}/{want.lang}/{want.entity} {want.state}")
        else:
            left.remove(match)
    extra = [f"{c.incident.subject.rule} {c.incident.subject.series.topic}/{c.incident.subject.series.lang}/"
             f"{c.incident.subject.series.entity} {c.incident.state.value}" for c in left]  # fmt: skip
    problems = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unexpected: {', '.join(extra)}"] * bool(extra)
    return "; ".join(problems)


def _fits(change: Transition, want: Wanted) -> bool:
    incident, series = change.incident, change.incident.subject.series
    return (
        (incident.subject.rule, series.topic, series.lang, series.entity, incident.state.value)
        == (want.rule, want.topic, want.lang, want.entity, want.state)
        and want.severity in (None, incident.severity.value)
        and want.leads in (None, incident.leads)
    )


def _universe(counts: Mapping[Series, tuple[Counts, Counts]], start: datetime) -> Universe:
    """The series of a test, by the full hours of the clock."""
    begin = start.replace(minute=0, second=0, microsecond=0)
    lead = (start - begin) // MINUTE
    articles = np.array([pair[1] for pair in counts.values()])
    whole = -(-(lead + articles.shape[1]) // 60) * 60
    padded = np.pad(articles, ((0, 0), (lead, whole - lead - articles.shape[1])))
    return Universe.counted(list(counts), begin, padded.reshape(len(padded), -1, 60).sum(axis=2))


def _counts(
    case: Case, start: datetime, minutes: int, step: int
) -> tuple[dict[Series, tuple[Counts, Counts]], dict[Series, list[Mention]]]:
    """Negatives and articles per minute, and the negative ones."""
    zeros = np.zeros(minutes, np.int64)
    counts: dict[Series, tuple[Counts, Counts]] = {RUN: (zeros.copy(), zeros.copy())}
    mentions: dict[Series, list[Mention]] = {RUN: []}
    for number, given in enumerate(case.input):
        articles, negative = (_minutely(text, minutes, step) for text in (given.articles, given.negative))
        articles = np.maximum(articles, negative)
        found = list(_mentions(given, number, negative, start))
        for one in _series(given):
            pair = counts.setdefault(one, (zeros.copy(), zeros.copy()))
            pair[0][:] += negative
            pair[1][:] += articles
            mentions.setdefault(one, []).extend(found)
    return counts, mentions


def _series(given: Input) -> list[Series]:
    return [
        RUN, Series(given.topic), Series(given.topic, given.lang), Series(ALL, given.lang),
        *(Series(ALL, ALL, entity) for entity in given.entities),
    ]  # fmt: skip


def _minutely(text: str, minutes: int, step: int) -> Counts:
    """Counts per minute, each step's spread evenly over it."""
    found = np.zeros(minutes, np.int64)
    for number, value in enumerate(values(text)):
        at = number * step + np.arange(value) * step // max(value, 1)
        np.add.at(found, at[at < minutes], 1)
    return found


def _mentions(given: Input, number: int, negative: Counts, start: datetime) -> Iterator[Mention]:
    count = 0
    for minute in np.flatnonzero(negative):
        for _ in range(int(negative[minute])):
            title = "the-story" if given.copies else f"title-{number}-{count}"
            yield Mention(
                start + timedelta(minutes=int(minute)), f"{number}-{count}", f"source-{count % given.sources}", title,
                given.topic, given.lang, 900_000, "test", given.entities, f"story-{number}" if given.retold else "",
            )  # fmt: skip
            count += 1
