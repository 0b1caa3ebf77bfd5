"""Sparse counts of articles within one hour."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
NOTHING = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))
"""`Cells.hourly` of an hour without articles."""


@dataclass(slots=True)
class Cells:
    """Sparse counts of one hour: parallel arrays, in pieces as they came.

    Attributes:
        rows: series by number; minutes: minute of the hour; negative: 0 or 1; one entry per article and series.
    """

    rows: list[Ints] = field(default_factory=list)
    minutes: list[Ints] = field(default_factory=list)
    negative: list[Ints] = field(default_factory=list)

    def add(self, rows: Ints, minutes: Ints, negative: Ints) -> None:
        """Adds entries."""
        self.rows.append(rows)
        self.minutes.append(minutes)
        self.negative.append(negative)

    def flat(self) -> tuple[Ints, Ints, Ints]:
        """All entries; merged in place."""
        if len(self.rows) > 1:
            self.rows, self.minutes, self.negative = (
                [np.concatenate(parts)] for parts in (self.rows, self.minutes, self.negative)
            )
        return self.rows[0], self.minutes[0], self.negative[0]

    def hourly(self) -> tuple[Ints, Ints, Ints]:
        """Series, negatives and articles, one entry per series."""
        rows, _, negative = self.flat()
        found, place = np.unique(rows, return_inverse=True)
        return found, np.bincount(place, negative).astype(np.int64), np.bincount(place).astype(np.int64)
