"""The alert log: canonical JSON Lines, the same bytes for the same alerts, whichever run they are from.

A line is an `alerts` message without its run, sorted by key; incidents are numbered in the order in which they first
appear, because their ids are made with the run's.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from crosswind.errors import DataError
from crosswind.stream.domain.contract import Alert

_encoder = msgspec.json.Encoder(order="sorted")


@dataclass(slots=True)
class Numbers:
    """Incidents in the order of their first line; `ids` is what a resumed run needs."""

    ids: dict[str, int] = field(default_factory=dict)

    def of(self, incident_id: str) -> int:
        """The number of an incident, from 1."""
        return self.ids.setdefault(incident_id, len(self.ids) + 1)


def line(alert: Alert, numbers: Numbers) -> bytes:
    """One line, with its line end."""
    plain: dict[str, Any] = msgspec.to_builtins(alert)
    del plain["run"], plain["incident_id"], plain["v"]
    plain["incident"] = numbers.of(alert.incident_id)
    plain["group"] = numbers.of(alert.group or alert.incident_id)
    return _encoder.encode(plain) + b"\n"


def lines(alerts: Iterable[Alert]) -> bytes:
    """The whole log of some alerts, in the order of their `seq`."""
    numbers = Numbers()
    return b"".join(line(alert, numbers) for alert in alerts)


def digest(path: Path) -> str:
    """SHA-256 of a log, 64 hex digits.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read the alert log {path}: {error.strerror}") from None


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, times still as text.

    Raises:
        DataError: it cannot be read or is no alert log.
    """
    try:
        return [msgspec.json.decode(row) for row in path.read_bytes().splitlines()]
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"{path} is no alert log: {error}") from None


def difference(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """What fired only in one of two logs: pairs of series and minute, each list ascending."""
    left, right = ({_key(row) for row in rows if row["cause"] == "fired"} for rows in (ours, theirs))
    return sorted(left - right), sorted(right - left)


def _key(row: dict[str, Any]) -> tuple[str, str, str, str, str]:
    return row["at"], row["rule"], row["topic"], row["lang"], row["entity"]
