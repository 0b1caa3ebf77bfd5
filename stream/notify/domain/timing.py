"""When a message may go out: quiet hours, the cap per hour, and the schedule of attempts. Pure; time is passed in."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from crosswind.errors import DataError

HOUR = timedelta(hours=1)
LONGEST = timedelta(hours=24)
"""A receiver's Retry-After counts up to here."""
SCHEDULE = tuple(timedelta(seconds=s) for s in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400))
"""Waits after the first, second, … attempt, as the Standard Webhooks specification suggests; after the last, failed."""
JITTER = 0.2
"""Waits are between 1 - JITTER and 1 + JITTER of the schedule's: receivers that fell together do not rise together."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours of the day in which nothing is sent; it waits until they end.

    Attributes:
        zone: IANA time zone.
        start: local wall time; `end` before it means the next morning.
        except_critical: critical alerts are sent all the same.
    """

    zone: str
    start: time
    end: time
    except_critical: bool = True


def quiet_hours(zone: str, start: str, end: str, except_critical: bool = True) -> Quiet:
    """Quiet hours from words such as `Europe/Berlin`, `22:00`, `07:30`.

    Raises:
        DataError: no such zone or time, or the hours are empty.
    """
    try:
        first, last = (time.fromisoformat(word) for word in (start, end))
        if zone not in _zones():
            raise ValueError
    except ValueError:
        raise DataError(f"quiet hours {zone} {start}-{end}: expected e.g. Europe/Berlin 22:00-07:00") from None
    if first == last or first.tzinfo or last.tzinfo:
        raise DataError("quiet hours begin and end at the same time, or have a zone of their own; pause instead")
    return Quiet(zone, first, last, except_critical)


def quiet_until(quiet: Quiet, now: datetime) -> datetime | None:
    """When the quiet hours that hold at `now` end; None when none do.

    Raises:
        DataError: this machine does not know the zone, though the one that took the subscription did.

    >>> from datetime import UTC
    >>> night = quiet_hours("Europe/Berlin", "22:00", "07:00")
    >>> quiet_until(night, datetime(2026, 1, 5, 23, 0, tzinfo=UTC)).isoformat()
    '2026-01-06T06:00:00+00:00'
    """
    try:
        local = now.astimezone(ZoneInfo(quiet.zone))
    except (ValueError, OSError, KeyError):
        raise DataError(f"time zone {quiet.zone!r} is not known on this machine; install its tzdata") from None
    for days in (-1, 0):
        day = local.date() + timedelta(days=days)
        until = day + timedelta(days=1) if quiet.end < quiet.start else day
        # Compared as instants: on the two nights on which clocks change, wall times alone would mislead.
        first, last = (_instant(d, t, quiet.zone, now) for d, t in ((day, quiet.start), (until, quiet.end)))
        if first <= now < last:
            return last
    return None


@cache
def _zones() -> frozenset[str]:
    """Zones of the IANA database that this machine has; reading them takes a while, and they do not change."""
    return frozenset(available_timezones() - {"localtime"})  # that one is another zone on another machine


def _instant(day: object, clock: time, zone: str, like: datetime) -> datetime:
    return datetime.combine(day, clock, ZoneInfo(zone)).astimezone(like.tzinfo)  # type: ignore[arg-type]


def hold_until(
    quiet: Quiet | None, cap_per_hour: int | None, now: datetime, severities: Collection[str], sent: Sequence[datetime]
) -> datetime | None:
    """Until when a message must wait; None: it may go now.

    Args:
        severities: of the alerts in it.
        sent: when messages of the subscription were sent lately.

    Raises:
        DataError: this machine does not know the quiet hours' zone.
    """
    until = quiet_until(quiet, now) if quiet and not (quiet.except_critical and "critical" in severities) else None
    recent = sorted(at for at in sent if at > now - HOUR)
    if cap_per_hour is not None and len(recent) >= cap_per_hour:
        free = recent[-cap_per_hour] + HOUR
        until = max(until, free) if until else free
    return until


def wait_after(attempt: int, message_id: str, schedule: Sequence[timedelta] = SCHEDULE) -> timedelta | None:
    """How long to wait after attempt number `attempt` (from 1) failed; None: that was the last."""
    if attempt > len(schedule):
        return None
    drawn = int.from_bytes(hashlib.sha256(f"{message_id}|{attempt}".encode()).digest()[:8], "big") / 2**64
    return schedule[attempt - 1] * (1 + JITTER * (2 * drawn - 1))


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """What a Retry-After header asks for, seconds or an HTTP date, between nothing and `LONGEST`; None: it has none.

    >>> from datetime import UTC
    >>> retry_after("120", datetime(2026, 1, 1, tzinfo=UTC))
    datetime.timedelta(seconds=120)
    """
    if not header:
        return None
    word = header.strip()
    if word.isascii() and word.isdigit():
        return min(LONGEST, timedelta(seconds=min(int(word[:12]), 10**9)))
    try:
        asked = parsedate_to_datetime(word)
        return max(timedelta(), min(LONGEST, asked - now)) if asked.tzinfo else None
    except (ValueError, TypeError, OverflowError):
        return None
