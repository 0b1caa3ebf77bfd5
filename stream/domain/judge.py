"""Rules over one hour: first all series at once on raw counts, then the few loud ones headline by headline."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from crosswind.stream.domain.detect.budget import together
from crosswind.stream.domain.detect.detector import Scores
from crosswind.stream.domain.detect.season import Floats
from crosswind.stream.domain.detect.view import View, Window
from crosswind.stream.domain.evidence import NOTHING, Evidence, corroborated, gather
from crosswind.stream.domain.negative_binomial import negative_binomial_tail
from crosswind.stream.domain.panel import Panel
from crosswind.stream.domain.rules import Per, Rule
from crosswind.stream.domain.series import MINUTE, Series
from crosswind.stream.domain.signal import Level, Signal


@dataclass(frozen=True, slots=True, eq=False)
class Hour:
    """One rule over the judged minutes of one hour; only rows that are loud at some minute, or wanted, are in it.

    Attributes:
        rows: Series -> its place in `scores`.
        heights: float64 [rows, 1], thresholds.
        least: float64 [rows, minutes], scores at or above it are raised, evidence permitting.
    """

    rule: Rule
    panel: Panel
    first: datetime
    rows: dict[Series, int]
    raw: View
    fresh: View
    scores: Scores
    heights: Floats
    least: Floats
    _windows: dict[tuple[int, bool], Window] = field(default_factory=dict)

    def raised(self) -> list[tuple[int, Series]]:
        """Minutes from the hour's first, and series, whose score passes the threshold; in order of minutes."""
        names = list(self.rows)
        found = np.argwhere((self.scores.score >= self.least).T)
        return [(int(minute), names[int(row)]) for minute, row in found]

    def signal(self, series: Series, minute: int) -> Signal:
        """What the rule says of a series at a minute, counted from the first."""
        row = self.rows.get(series)
        if row is None or self.raw.normal.hours < self.rule.least.hours:
            return Signal()
        score = float(self.scores.score[row, minute])
        width = int(self.scores.width[row, minute])
        signal = self._counted(row, minute, width, score)
        if score < self.rule.clear * self.heights[row, 0]:
            return signal
        if score < self.least[row, minute]:
            return _with_level(signal, Level.ELEVATED)
        return self._with_evidence(signal, series, self.first + minute * MINUTE)

    def _counted(self, row: int, minute: int, width: int, score: float) -> Signal:
        raw, fresh = self._window(width, False), self._window(width, True)
        observed, articles = int(raw.negative[row, minute]), float(raw.articles[row, minute])
        headlines, mean = int(fresh.negative[row, minute]), float(fresh.mean[row, minute])
        dispersion = 1.0 + float(fresh.excess[row, minute]) * mean
        chance = self.rule.table.budget(score, float(self.fresh.normal.typical[row])) if score > 0 else 1e3
        return Signal(
            Level.CALM, observed, round(mean, 9), negative_binomial_tail(headlines, max(mean, 1e-9), dispersion),
            observed / articles if articles else 0.0, NOTHING, width, score, min(chance, 1e3),
        )  # fmt: skip

    def _with_evidence(self, signal: Signal, series: Series, at: datetime) -> Signal:
        history = self.panel.histories[self.panel.series.index(series)]
        mentions, least = history.mentioned(at, signal.window), self.rule.least
        evidence = gather(mentions, self.rule.count)
        enough = corroborated(mentions, self.rule.count) >= least.headlines and evidence.sources >= least.sources
        return _with_level(signal, Level.RAISED if enough else Level.ELEVATED, evidence)

    def _window(self, width: int, fresh: bool) -> Window:
        if (width, fresh) not in self._windows:
            self._windows[width, fresh] = (self.fresh if fresh else self.raw).window(width)
        return self._windows[width, fresh]


def _with_level(signal: Signal, level: Level, evidence: Evidence = NOTHING) -> Signal:
    return replace(signal, level=level, evidence=evidence)


def judge(rule: Rule, panel: Panel, view: View, first: datetime, wanted: set[Series], universe: int) -> Hour:
    """One rule over the minutes of `view`.

    Args:
        wanted: series that must be judged although they are calm, because something of them is open.
        universe: how many series the rule watches, loud or not.
    """
    scores = rule.detector.scores(view)
    heights = rule.table.height(view.normal.typical, rule.budget.at_most)
    loud = np.any(scores.score >= rule.clear * heights[:, None], axis=1)
    places = [
        row for row, series in enumerate(panel.series) if series in wanted or (loud[row] and rule.match.holds(series))
    ]
    rows = np.array(places, np.intp)
    if not places or view.normal.hours < rule.least.hours:
        rows = rows[:0]
    named = {panel.series[int(row)]: place for place, row in enumerate(rows)}
    fresh = view.only(rows, view.negative[rows], view.articles[rows])
    if len(rows):
        fresh = panel.fresh(view, rows, first, rule.count)
    raw = view.only(rows, view.negative[rows], view.articles[rows])
    found = rule.detector.scores(fresh) if len(rows) else Scores(scores.score[rows], scores.width[rows])
    above = heights[rows][:, None]
    least = np.broadcast_to(above, found.score.shape)
    if rule.budget.per is Per.RULE:
        least = _least_together(rule, found, above, fresh.normal.typical, universe)
    return Hour(rule, panel, first, named, raw, fresh, found, above, np.asarray(least))


def _least_together(rule: Rule, found: Scores, above: Floats, typical: Floats, universe: int) -> Floats:
    """Thresholds per row and minute when all series share one budget."""
    least = np.full(found.score.shape, np.inf)
    for minute in np.flatnonzero((found.score >= above).any(axis=0)):
        rows: NDArray[np.intp] = np.flatnonzero(found.score[:, minute] >= above[:, 0])
        chances = [rule.table.budget(float(found.score[row, minute]), float(typical[row])) for row in rows]
        allowed = together(chances, rule.budget.at_most, max(universe, len(chances)))
        for row, chance in zip(rows, chances, strict=True):
            if chance <= allowed:
                least[row, minute] = found.score[row, minute]
    return least


def hours(first: datetime, last: datetime) -> list[tuple[datetime, int]]:
    """The minutes from `first` to `last`, inclusive, cut at full hours: where each piece begins, and its length."""
    pieces = []
    while first <= last:
        stop = min(first.replace(minute=0) + timedelta(hours=1), last + MINUTE)
        pieces.append((first, (stop - first) // MINUTE))
        first = stop
    return pieces
