"""Which series a feed had when: what a budget is shared by that all series of a rule have together.

A series counts at an hour when it had an article in the weeks (`LOOKBACK`) before that hour began. What comes in the
hour itself does not, so however a feed is cut into batches and evaluations, a minute finds the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from crosswind.stream.domain.panel import LOOKBACK
from crosswind.stream.domain.rules import Per, RuleSet
from crosswind.stream.domain.series import Counts, Series

REACH = LOOKBACK // timedelta(hours=1)
NEVER = -(2**40)
"""The hour of an article that there never was."""


@dataclass(frozen=True, slots=True, eq=False)
class Universe:
    """The series of some hours, one after the other.

    Attributes:
        series: each once.
        first: the first hour, counted from 1970.
        present: bool [series, hours].
    """

    series: Sequence[Series]
    first: int
    present: NDArray[np.bool_]

    @classmethod
    def of(cls, series: Sequence[Series], first: int, before: Counts, during: Sequence[NDArray[np.intp]]) -> "Universe":
        """From the hours in which series had articles.

        Args:
            before: int64 [series], the last one before `first`, `NEVER` where there is none.
            during: for each hour from `first` on, the places of the series that had one in it.
        """
        last, present = before.copy(), np.zeros((len(series), len(during)), bool)
        for place, rows in enumerate(during):
            present[:, place] = last >= first + place - REACH
            last[rows] = first + place
        return cls(series, first, present)

    @classmethod
    def counted(cls, series: Sequence[Series], start: datetime, articles: Counts) -> "Universe":
        """From articles per hour, int64 [series, hours], of which nothing is known before `start`, a full hour."""
        during = [np.flatnonzero(articles[:, hour]) for hour in range(articles.shape[1])]
        return cls.of(series, hour_of(start), np.full(len(series), NEVER, np.int64), during)

    def watched(self, rules: RuleSet) -> dict[str, Mapping[int, int]]:
        """How many series each rule whose series share a budget watches: by its name, by hour."""
        found: dict[str, Mapping[int, int]] = {}
        for rule in rules.rules:
            if rule.budget.per is Per.RULE:
                held = np.array([rule.match.holds(one) for one in self.series], bool)
                found[rule.name] = dict(enumerate(self.present[held].sum(axis=0).tolist(), self.first))
        return found


def shared(rules: RuleSet) -> bool:
    """Whether any rule's series share a budget."""
    return any(rule.budget.per is Per.RULE for rule in rules.rules)


def hour_of(moment: datetime) -> int:
    """The hour that a moment lies in, counted from 1970."""
    return int(moment.timestamp()) // 3600
