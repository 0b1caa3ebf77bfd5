"""Moments as whole numbers since 1970, as columns hold them."""

from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from crosswind.stream.domain.watermark import JUMP, Watermark

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_MICROS = 86_400_000_000


def to_micros(moment: datetime) -> int:
    """Whole microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The moment so many microseconds after 1970, UTC."""
    return EPOCH + timedelta(microseconds=micros)


def advance(mark: Watermark, micros: NDArray[np.int64]) -> Watermark:
    """`Watermark.advance` over microseconds, int64 [n]; at once where the times rise without a jump."""
    if not len(micros):
        return mark
    jump = JUMP // timedelta(microseconds=1)
    if mark.event_time is not None and not mark.ahead:
        start = to_micros(mark.event_time)
        steps = np.diff(micros, prepend=start)
        if steps.max() <= jump and steps[1:].min(initial=0) >= 0:
            return Watermark(max(mark.event_time, from_micros(int(micros[-1]))))
    return mark.advance(from_micros(int(one)) for one in micros)
