"""Backtests: rules over a staged feed, judged against what really happened."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from crosswind.errors import DataError, SettingsError
from crosswind.stream.domain.rules import Per, RuleSet
from crosswind.stream.domain.series import Series
from crosswind.stream.replay.engine import Replayer, track
from crosswind.stream.replay.heard import Heard
from crosswind.stream.replay.inprocess import LATENESS
from crosswind.stream.replay.ledger import Ledger
from crosswind.stream.replay.log import Numbers, line
from crosswind.stream.replay.measures import EARLY, Matched, Measures, Period, match, measure, slices
from crosswind.stream.replay.stage import Stage
from crosswind.stream.replay.study import Study, falls, study
from crosswind.stream.replay.truth import Event, Prices, alarms_of
from crosswind.stream.service.rules import RuleFile, rule_set

BUDGETS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Budgets at which the calibration is measured, false alarms per series and month."""


@dataclass(frozen=True, slots=True)
class Walked:
    """What several sets of rules said of one feed.

    Attributes:
        rows: name -> lines of its alert log.
        watched: name -> the series that had articles and that the rules watch.
        period: what is judged: strays and pauses of the feed do not count.
    """

    rows: Mapping[str, list[dict[str, Any]]]
    watched: Mapping[str, tuple[Series, ...]]
    period: Period
    articles: int


def walk(
    stage: Stage,
    rules: Mapping[str, RuleSet],
    *,
    lateness: timedelta = LATENESS,
    progress: Callable[[int], None] = lambda n: None,
    until: datetime | None = None,
) -> Walked:
    """Replays a feed once through all of the rules.

    Args:
        until: stop there, so that what comes later cannot matter.

    Raises:
        DataError: the feed is empty.
    """
    ledger = Ledger(any(rule.languages for rule in rules.values()))
    numbers = {name: Numbers() for name in rules}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in rules}

    def sink(name: str) -> Callable[[Any], None]:
        return lambda alert: rows[name].append(msgspec.json.decode(line(alert, numbers[name])))

    tracks = [track(ledger, f"backtest-{name}", rule, lateness, sink(name)) for name, rule in rules.items()]
    heard = Heard()
    Replayer(ledger, tracks, progress=progress).play(heard.over(stage.read(until=until)))
    period = heard.period(until)
    if period is None:
        raise DataError("the feed has no article in this range; check --since, --until and the filters")
    series = ledger.series
    watched = {
        name: tuple(one for one in series if any(rule.match.holds(one) for rule in found.rules))
        for name, found in rules.items()
    }
    return Walked(rows, watched, period, stage.rows)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One set of rules, judged.

    Attributes:
        parts: `topic` and `lang` -> value -> its figures.
        calibration: pairs of budget and measured false alarms a month, counted as the budget is, with their interval.
        study: of prices around the alarms, when the truth is prices.
    """

    name: str
    version: str
    measures: Measures
    matched: Matched
    parts: Mapping[str, Mapping[str, Measures]]
    calibration: Sequence[tuple[float, float, float, float]] = ()
    study: Study | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def judge(
    name: str, version: str, rows: Sequence[dict[str, Any]], watched: Sequence[Series], truth: "list[Event] | Prices",
    period: Period, *, early: timedelta = EARLY, market: str | None = None, lateness: timedelta = LATENESS,
) -> Verdict:  # fmt: skip
    """Judges one log, of a replay with this lateness."""
    alarms = alarms_of(rows)
    events = falls(truth, market=market) if isinstance(truth, Prices) else truth
    matched = match(alarms, events, period, early)
    figures = measure(matched, period, max(len(watched), 1))
    around = study(matched.alarms, truth, market=market, lateness=lateness) if isinstance(truth, Prices) else None
    return Verdict(name, version, figures, matched, slices(alarms, events, period, watched), (), around)


def with_values(text: RuleFile, values: Mapping[str, Any]) -> RuleFile:
    """A rule file with other values in every rule, by path: `false_alarms.at_most`, `evidence.headlines`, `detector`.

    Raises:
        SettingsError: a path or value is not one of a rule file.
    """
    plain = msgspec.to_builtins(text)
    for rule in plain["rules"]:
        for path, value in values.items():
            *parents, last = path.split(".")
            place = rule
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
    try:
        return msgspec.convert(plain, RuleFile, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"not a rule: {error}; paths are those of a rule file, e.g. false_alarms.at_most") from None


def calibrate(
    text: RuleFile, rows: Mapping[float, Sequence[dict[str, Any]]], watched: Sequence[Series], events: list[Event],
    period: Period,
) -> list[tuple[float, float, float, float]]:  # fmt: skip
    """Budget, false alarms a month measured with it, and their interval; ascending by budget.

    What is measured is counted as the budget is: of each series that a rule watches, or of the whole rule where the
    rule's budget is `per: rule`. Of several rules it is the mean.
    """
    rules = rule_set(text).rules
    budgets = sum(1 if rule.budget.per is Per.RULE else sum(map(rule.match.holds, watched)) for rule in rules)
    found = []
    for budget, log in sorted(rows.items()):
        figures = measure(match(alarms_of(log), events, period), period, max(budgets, 1), resamples=300)
        low, high = figures.intervals["false_per_series_month"]
        found.append((budget, figures.false_per_series_month, low, high))
    return found


def budget_rules(text: RuleFile, budgets: Sequence[float] = BUDGETS) -> dict[float, RuleSet]:
    """The same rules with other budgets."""
    return {budget: rule_set(with_values(text, {"false_alarms.at_most": budget})) for budget in budgets}


_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """`path=value,value` of the command line.

    >>> parse_grid(["detector=scan,cusum", "evidence.headlines=4,6"])
    {'detector': ['scan', 'cusum'], 'evidence.headlines': [4, 6]}

    Raises:
        SettingsError: it has another form.
    """
    found = {}
    for text in texts:
        path, _, values = text.partition("=")
        if not values:
            raise SettingsError(f"--grid {text}: expected path=value,value, e.g. evidence.headlines=4,6,8")
        found[path] = [_value(value) for value in values.split(",")]
    return found


def _value(text: str) -> Any:
    if not _NUMBER.fullmatch(text):
        return text
    return float(text) if "." in text or "e" in text else int(text)
