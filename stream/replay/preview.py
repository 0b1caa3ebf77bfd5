"""Rule preview: how often a rule would have fired over the last months, from stored buckets, in about a second.

Two steps: every hour of every series is looked at coarsely, on hourly counts against a slow level; then the live
engine's own code judges only the hours that stand out, on the true minutes. It answers 'about how often, and when';
the backtest answers exactly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from crosswind.stream.domain.bucket import ALL
from crosswind.stream.domain.detect.deviance import count_spreads
from crosswind.stream.domain.detect.season import Counts, Floats
from crosswind.stream.domain.memory import Memory
from crosswind.stream.domain.notice import Orders
from crosswind.stream.domain.panel import LOOKBACK, MENTIONS, WEEKS
from crosswind.stream.domain.rules import Rule, RuleSet
from crosswind.stream.domain.series import MINUTE, History, Hours, Mention, Series
from crosswind.stream.domain.universe import Universe, shared
from crosswind.stream.domain.watch import Watch

HOUR = timedelta(hours=1)
LOUD = 3.5
"""Spreads (signed root of the deviance) above the slow level from which on an hour is judged exactly."""
FIRST = 3
"""Hours of a loud stretch that are judged: what has not fired by then will not, and what has is the same incident."""
MOST_HOURS = 150
"""Hours judged exactly at most; beyond it the rule is told to be far too loud."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Stored buckets of some series, aligned.

    Attributes:
        start: a full hour.
        negative, articles: int32 [series, minutes].
        run: int32 [minutes], of all articles.
    """

    series: tuple[Series, ...]
    start: datetime
    negative: Counts
    articles: Counts
    run: Counts


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rule would have said.

    Attributes:
        fired: moment and series of each alarm.
        judged: hours that were judged exactly, of `hours`.
        cut: there were more loud hours than `MOST_HOURS`, the loudest were judged.
    """

    fired: tuple[tuple[datetime, Series], ...]
    hours: int
    judged: int
    cut: bool


def preview(rules: RuleSet, buckets: Buckets, mentions: Mapping[Series, Sequence[Mention]] | None = None) -> Preview:
    """The alarms of some rules over stored buckets.

    Args:
        mentions: negative articles of the series; without them every negative article counts as a headline and a
            source of its own, so a little more fires.
    """
    negative, articles, run = (_hourly(counts) for counts in (buckets.negative, buckets.articles, buckets.run))
    loud = _loud(negative, run)
    loud[:, : min((rule.least.hours for rule in rules.rules), default=1)] = False
    watched = np.array([any(rule.match.holds(one) for rule in rules.rules) for one in buckets.series])
    loud &= watched[:, None] & (_trailing(negative, 9) >= rules.least_headlines)
    hours = np.flatnonzero(loud.any(axis=0))
    cut = len(hours) > MOST_HOURS
    hours = hours[np.argsort(-(negative * loud).sum(axis=0)[hours], kind="stable")[:MOST_HOURS]]
    orders = Orders()
    if shared(rules):
        orders = Orders(universe=Universe.counted(buckets.series, buckets.start, articles).watched(rules))
    fired: list[tuple[datetime, Series]] = []
    for first, last in _stretches(np.sort(hours)):
        some = np.flatnonzero(loud[:, first : last + 1].any(axis=1))
        fired += _judge(rules, buckets, (negative, articles, run), some, int(first), int(last), mentions, orders)
    return Preview(tuple(sorted(fired)), negative.shape[1], len(hours), cut)


def _hourly(counts: Counts) -> Counts:
    hours = counts.shape[-1] // 60
    return np.asarray(counts[..., : hours * 60].reshape(*counts.shape[:-1], hours, 60).sum(axis=-1), np.int64)


def _trailing(hourly: Counts, width: int) -> Counts:
    sums = np.cumsum(np.pad(hourly, ((0, 0), (width, 0))), axis=1)
    return np.asarray(sums[:, width:] - sums[:, :-width])


def _loud(negative: Counts, run: Counts) -> np.ndarray:
    """Hours, [series, hours], in which some trailing window stands out from the level of the weeks before."""
    decay = 0.5 ** (1.0 / 168.0)
    pace = lfilter([1 - decay], [1, -decay], run.astype(np.float64)) + 1e-9
    level = lfilter([1 - decay], [1, -decay], negative.astype(np.float64), axis=1)
    share = np.roll(level / pace, 2, axis=1)  # the last two hours teach nothing
    share[:, :2] = share[:, 2:3] if share.shape[1] > 2 else 0.0
    loud = np.zeros(negative.shape, bool)
    for width in (1, 2, 4, 8):
        mean: Floats = np.maximum(share * _trailing(run[None, :], width), 0.05)
        loud |= count_spreads(_trailing(negative, width).astype(np.float64), mean, np.full_like(mean, 0.2)) > LOUD
    before: NDArray[np.bool_] = np.concatenate([np.zeros((len(loud), FIRST), bool), loud], axis=1)
    going_on = np.all([before[:, FIRST - lag : FIRST - lag + len(run)] for lag in range(1, FIRST + 1)], axis=0)
    return np.asarray(loud & ~going_on)


def _stretches(hours: np.ndarray) -> list[tuple[int, int]]:
    """Runs of hours, gaps of up to two closed."""
    if not len(hours):
        return []
    edges = np.flatnonzero(np.diff(hours) > 2)
    starts, ends = [0, *(edges + 1)], [*edges, len(hours) - 1]
    return [(int(hours[a]), int(hours[b])) for a, b in zip(starts, ends, strict=True)]


def _judge(
    rules: RuleSet, buckets: Buckets, hourly: tuple[Counts, Counts, Counts], some: np.ndarray, first: int, last: int,
    mentions: Mapping[Series, Sequence[Mention]] | None, orders: Orders,
) -> list[tuple[datetime, Series]]:  # fmt: skip
    parents = {buckets.series[int(row)].parent for row in some} - {None}
    rows = sorted({int(row) for row in some} | {n for n, one in enumerate(buckets.series) if one in parents})
    fine_from = max(first - MENTIONS // HOUR, 0)
    past_from = max(first - WEEKS * 168 - LOOKBACK // HOUR + WEEKS * 168, 0)
    low, high = fine_from * 60, min((last + 1) * 60, buckets.run.shape[0])
    begin = buckets.start + fine_from * HOUR
    negative, articles, run = hourly
    histories = {}
    for row in rows:
        series = buckets.series[row]
        own = (
            mentions[series]
            if mentions and series in mentions
            else _stand_ins(series, buckets.negative[row, low:high], begin)
        )
        past = Hours(negative[row, past_from:fine_from], articles[row, past_from:fine_from], run[past_from:fine_from])
        histories[series] = History.of(begin, buckets.negative[row, low:high], buckets.articles[row, low:high],
                                       buckets.run[low:high], own, past if fine_from > past_from else None)  # fmt: skip
    start = buckets.start + first * HOUR
    end = buckets.start + high * MINUTE - MINUTE
    _, told = Watch("preview", _without_feed(rules)).over(histories, Memory(), start, end, orders)
    return [(change.at, change.incident.subject.series) for change in told if change.cause == "fired"]


def _stand_ins(series: Series, negative: Counts, begin: datetime) -> list[Mention]:
    found = []
    for minute in np.flatnonzero(negative):
        for copy in range(int(negative[minute])):
            ident = f"{minute}-{copy}"
            found.append(Mention(begin + int(minute) * MINUTE, ident, ident, ident, series.topic, series.lang, 900_000,
                                 "", () if series.entity == ALL else (series.entity,)))  # fmt: skip
    return found


def _without_feed(rules: RuleSet) -> RuleSet:
    return RuleSet(rules.rules, rules.version, rules.inhibit, rules.group_overlap, None)


def rules_of(rule: Rule) -> RuleSet:
    """One rule by itself, as an editor previews it."""
    return RuleSet((rule,), rule.version)
