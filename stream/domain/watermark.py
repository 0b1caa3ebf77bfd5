"""How far event time has come. One future-dated article must not close everybody's buckets."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

CONFIRMATIONS = 3
"""Articles that must lie beyond a jump before it is believed: a single wrong date is common, three are a new day."""

JUMP = timedelta(hours=1)
"""Steps forward up to this are believed at once; nights and weekends are longer, and wait for confirmation."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """Event time seen so far on one partition; never moves back.

    Attributes:
        event_time: aware, None before enough articles were seen.
        ahead: times beyond a jump that wait for confirmation, ascending, fewer than `CONFIRMATIONS`.
    """

    event_time: datetime | None = None
    ahead: tuple[datetime, ...] = ()

    def advance(self, times: Iterable[datetime], again: Iterable[datetime] = ()) -> "Watermark":
        """The watermark after articles with these event times, in order of delivery.

        Args:
            again: times of further inputs of articles that are known. They move it as well, but do not confirm a jump
                that their article waits for already: one wrong date is one, however often it is delivered.

        >>> from datetime import UTC
        >>> noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
        >>> mark = Watermark(noon).advance([noon + timedelta(days=365), noon + timedelta(minutes=5)])
        >>> mark.event_time == noon + timedelta(minutes=5)
        True
        """
        mark = self
        for time in times:
            mark = mark._step(time)
        for time in again:
            if time not in mark.ahead:
                mark = mark._step(time)
        return mark

    def _step(self, time: datetime) -> "Watermark":
        if self.event_time is not None and time <= self.event_time + JUMP:
            return _absorb(max(self.event_time, time), self.ahead)
        ahead = tuple(sorted((*self.ahead, time)))
        if len(ahead) < CONFIRMATIONS:
            return Watermark(self.event_time, ahead)
        return _absorb(ahead[0], ahead[1:])


def _absorb(event_time: datetime, ahead: tuple[datetime, ...]) -> Watermark:
    """Times that waited and are now within a jump move the watermark on, one after the other."""
    for time in ahead:
        if time <= event_time + JUMP:
            event_time = max(event_time, time)
    return Watermark(event_time, tuple(time for time in ahead if time > event_time + JUMP))
