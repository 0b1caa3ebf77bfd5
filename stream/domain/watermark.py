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

    def advance(self, times: Iterable[datetime]) -> "Watermark":
        """The watermark after articles with these event times, in order of delivery.

        >>> from datetime import UTC
        >>> noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
        >>> mark = Watermark(noon).advance([noon + timedelta(days=365), noon + timedelta(minutes=5)])
        >>> mark.event_time == noon + timedelta(minutes=5)
        True
        """
        event_time, ahead = self.event_time, list(self.ahead)
        for time in times:
            if event_time is not None and time <= event_time + JUMP:
                event_time = max(event_time, time)
                continue
            ahead = sorted([*ahead, time])
            if len(ahead) >= CONFIRMATIONS:
                event_time = max(ahead[0], event_time) if event_time else ahead[0]
                ahead = [later for later in ahead[1:] if later > event_time]
        if event_time is not None:
            within = [time for time in ahead if time <= event_time + JUMP]
            event_time = max([event_time, *within])
            ahead = [time for time in ahead if time > event_time + JUMP]
        return Watermark(event_time, tuple(ahead))
