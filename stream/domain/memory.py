"""What the engine must remember between minutes; a plain value that goes through JSON unchanged."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from crosswind.stream.domain.incident import Incident
from crosswind.stream.domain.series import Series

Key = tuple[str, Series]
"""A rule's name and a series."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is open, and when what fired lately.

    Attributes:
        opened: by rule and series, at most one each.
        fires: minutes at which a series fired, of the last day, or of the rule's `flapping.within` where that is
            longer, ascending.
    """

    opened: Mapping[Key, Incident] = field(default_factory=dict)
    fires: Mapping[Key, tuple[datetime, ...]] = field(default_factory=dict)

    def of(self, series: Series) -> list[Incident]:
        """The open incidents of a series."""
        return [incident for incident in self.opened.values() if incident.subject.series == series]

    @property
    def series(self) -> set[Series]:
        """The series that have an open incident."""
        return {series for _, series in self.opened}


@dataclass(frozen=True, slots=True)
class _Fires:
    rule: str
    series: Series
    times: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class _Plain:
    open: list[Incident]
    fires: list[_Fires] = field(default_factory=list)


def to_json(memory: Memory) -> dict[str, Any]:
    """Plain values; `from_json` reads them back equal."""
    fires = [_Fires(rule, series, times) for (rule, series), times in sorted(memory.fires.items())]
    plain: dict[str, Any] = msgspec.to_builtins(_Plain(list(memory.opened.values()), fires))
    return plain


def from_json(plain: Mapping[str, Any]) -> Memory:
    """The memory from what `to_json` made; other keys are ignored.

    Raises:
        msgspec.ValidationError: it is something else.
    """
    found = msgspec.convert(dict(plain), _Plain)
    return Memory(
        {incident.subject.key: incident for incident in found.open},
        {(fires.rule, fires.series): fires.times for fires in found.fires},
    )
