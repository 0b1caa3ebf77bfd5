"""When a feed told anything: the time that a backtest judges.

A stray date, of an old article or of one that was received again long after, must not stretch the period: every rate
is per month of it, and settings are chosen on a share of it.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from crosswind.stream.domain.watermark import CONFIRMATIONS
from crosswind.stream.replay.measures import Period
from crosswind.stream.replay.times import from_micros
from crosswind.stream.service.alerting import PAUSE

_PAUSE = PAUSE // timedelta(microseconds=1)


@dataclass(slots=True)
class Heard:
    """Stretches of a feed without a pause that the engine would jump (`PAUSE`): first and last time in microseconds,
    and how many articles."""

    stretches: list[tuple[int, int, int]] = field(default_factory=list)

    def over(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The same tables, ascending by `event_at` over all of them, noted as they pass; empty ones are left out."""
        for table in tables:
            if len(table):
                self._note(table["event_at"].cast(pa.int64()).to_numpy())
                yield table

    def _note(self, micros: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> None:
        for part in np.split(micros, np.flatnonzero(np.diff(micros) > _PAUSE) + 1):
            first, last, count = int(part[0]), int(part[-1]), len(part)
            if self.stretches and first - self.stretches[-1][1] <= _PAUSE:
                first, _, before = self.stretches.pop()
                count += before
            self.stretches.append((first, last, count))

    def period(self, until: datetime | None = None) -> Period | None:
        """From the first article to the minute after the last one, and the pauses between; None: there was none.

        What has fewer articles than the engine needs to believe a jump is a stray, and part of a pause, or outside.
        A feed of nothing else is too sparse to tell: then all of it counts.

        Args:
            until: where the period ends instead.
        """
        if not self.stretches:
            return None
        told = [one for one in self.stretches if one[2] >= CONFIRMATIONS]
        told = told or [(self.stretches[0][0], self.stretches[-1][1], 0)]
        spans = [(from_micros(first), from_micros(last) + timedelta(minutes=1)) for first, last, _ in told]
        pauses = [(end, begin) for (_, end), (begin, _) in itertools.pairwise(spans)]
        end = spans[-1][1]
        if until is not None and until - end > PAUSE:
            pauses.append((end, until))
        return Period(spans[0][0], until or end, tuple(pauses))
