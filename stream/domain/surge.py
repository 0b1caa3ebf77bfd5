"""Rules: pure functions from the closed buckets of a series to a signal."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from crosswind.stream.domain.baseline import Baseline, learn
from crosswind.stream.domain.binomial import binomial_tail
from crosswind.stream.domain.evidence import NOTHING, Evidence, gather
from crosswind.stream.domain.negative_binomial import negative_binomial_tail
from crosswind.stream.domain.series import Blocks, History

PACE_ARTICLES = 5.0
"""Weight, in articles, of the assumption that the run is as busy as usual."""


class Level(StrEnum):
    """How loud a signal is. `ELEVATED` opens nothing, but keeps open what is."""

    CALM = "calm"
    ELEVATED = "elevated"
    RAISED = "raised"


@dataclass(frozen=True, slots=True)
class Signal:
    """What a rule says of one series at one minute.

    Attributes:
        observed: negatives in the window.
        expected: negatives that the baseline expects there.
        p_value: probability of so many distinct negative headlines in a normal window; 1.0 where nothing was tested.
        negative_share: negatives among the window's articles.
    """

    level: Level = Level.CALM
    observed: int = 0
    expected: float = 0.0
    p_value: float = 1.0
    negative_share: float = 0.0
    evidence: Evidence = NOTHING


class Rule(Protocol):
    """A rule as the engine uses it. Pure: the same history and minute give the same signal, always."""

    @property
    def name(self) -> str:
        """Names the rule in incidents."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the rule may answer differently."""
        ...

    @property
    def window(self) -> int:
        """Minutes that count as now, the evaluated one included."""
        ...

    @property
    def least(self) -> int:
        """Negatives in the window below which no signal is ever raised: such windows need no evaluation."""
        ...

    @property
    def lookback(self) -> int:
        """Minutes of history before the evaluated one that the rule wants to see."""
        ...

    def evaluate(self, history: History, at: datetime) -> Signal:
        """The signal at minute `at`, from buckets up to and including it and none after."""
        ...


@dataclass(frozen=True, slots=True)
class NegativeSurge:
    """More negative headlines in the trailing hour than the series' own preceding days explain.

    Both the number of negatives and their share among the articles must be unlikely: a busy morning lifts the first,
    not the second. Copies of one headline count once, so a syndicated story is not a surge.

    Attributes:
        window: minutes that count as now.
        gap: minutes before the window's end that the baseline does not see, so that a surge does not teach itself.
        days: length of the baseline at most.
        least_hours: hours with a running feed that a baseline needs.
        raise_below, clear_above: p-values; between them a signal is elevated (hysteresis).
        share_below: the share's p-value must be below it too.
        least_dispersion: news comes in clusters even where a short baseline shows none.
        most_pace: the most that the rest of the run speeds up what is expected, and slows it down.
        least, least_headlines, least_sources: minimum evidence.
    """

    name: str = "negative-surge"
    version: str = "1"
    window: int = 60
    gap: int = 120
    days: int = 7
    least_hours: int = 6
    raise_below: float = 1e-5
    clear_above: float = 1e-2
    share_below: float = 1e-2
    least_dispersion: float = 1.2
    most_pace: float = 3.0
    least: int = 8
    least_headlines: int = 6
    least_sources: int = 3

    @property
    def lookback(self) -> int:
        """Minutes: the baseline and the gap before the evaluated minute's end."""
        return self.days * 24 * 60 + self.gap

    def evaluate(self, history: History, at: datetime) -> Signal:
        """See `Rule.evaluate`."""
        observed, articles = history.sums(at, self.window)
        blocks = history.blocks(at, self.gap, self.window, self.days * 24 * 60 // self.window)
        share = observed / articles if articles else 0.0
        if len(blocks) < self.least_hours:
            return Signal(observed=observed, negative_share=share)
        normal = learn(blocks.negative, blocks.articles, self.least_dispersion)
        pace = self._pace(history.run_sum(at, self.window) - articles, blocks)
        baseline = replace(normal, mean=normal.mean * pace)
        signal = Signal(observed=observed, expected=baseline.mean, negative_share=share)
        loose = self._p_value(observed, baseline)
        if loose > self.clear_above:
            return replace(signal, p_value=loose)
        return self._with_evidence(signal, articles, baseline, gather(history.mentioned(at, self.window)))

    def _with_evidence(self, signal: Signal, articles: int, baseline: Baseline, evidence: Evidence) -> Signal:
        """Judges again with each headline counted once."""
        copies = signal.observed - evidence.headlines
        p_value = self._p_value(evidence.headlines, baseline)
        share = binomial_tail(evidence.headlines, articles - copies, baseline.share)
        enough = (
            signal.observed >= self.least
            and evidence.headlines >= self.least_headlines
            and evidence.sources >= self.least_sources
        )
        level = Level.CALM if p_value > self.clear_above else Level.ELEVATED
        if p_value <= self.raise_below and share <= self.share_below and enough:
            level = Level.RAISED
        return replace(signal, level=level, p_value=p_value, evidence=evidence)

    def _pace(self, others: int, blocks: Blocks) -> float:
        """How busy the other series are now, against their own usual hour: day, night and weekend, without a calendar.

        Smoothed by a few articles, so that a small run has a pace near 1.
        """
        usual = float((blocks.run - blocks.articles).mean())
        pace = (others + PACE_ARTICLES) / (usual + PACE_ARTICLES)
        return min(max(pace, 1.0 / self.most_pace), self.most_pace)

    def _p_value(self, count: int, baseline: Baseline) -> float:
        return negative_binomial_tail(count, baseline.mean, baseline.dispersion)
