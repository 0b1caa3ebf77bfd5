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
    """What is open, when what fired lately, and what has been told by it.

    Attributes:
        opened: by rule and series, at most one each.
        fires: minutes at which a series fired, of the last day, or of the rule's `flapping.within` where that is
            longer, ascending.
        covered: the last minute, of the last day, that a series' own incident, or the one over all languages that
            spoke for it, covers: what is found to begin by then, late, has been told.
        held: series that were raised while the incident over all languages spoke for them, and were not calm since.
    """

    opened: Mapping[Key, Incident] = field(default_factory=dict)
    fires: Mapping[Key, tuple[datetime, ...]] = field(default_factory=dict)
    covered: Mapping[Key, datetime] = field(default_factory=dict)
    held: frozenset[Key] = frozenset()

    def of(self, series: Series) -> list[Incident]:
        """The open incidents of a series."""
        return [incident for incident in self.opened.values() if incident.subject.series == series]

    @property
    def series(self) -> set[Series]:
        """The series that have an open incident, or are held back by one: those that must be looked at."""
        return {series for _, series in (*self.opened, *self.held)}


@dataclass(frozen=True, slots=True)
class _Fires:
    rule: str
    series: Series
    times: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class _Covered:
    rule: str
    series: Series
    until: datetime


@dataclass(frozen=True, slots=True)
class _Plain:
    open: list[Incident]
    fires: list[_Fires] = field(default_factory=list)
    covered: list[_Covered] = field(default_factory=list)
    held: list[Key] = field(default_factory=list)


def to_json(memory: Memory) -> dict[str, Any]:
    """Plain values; `from_json` reads them back equal."""
    fires = [_Fires(rule, series, times) for (rule, series), times in sorted(memory.fires.items())]
    covered = [_Covered(rule, series, until) for (rule, series), until in sorted(memory.covered.items())]
    whole = _Plain(list(memory.opened.values()), fires, covered, sorted(memory.held))
    plain: dict[str, Any] = msgspec.to_builtins(whole)
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
        {(covered.rule, covered.series): covered.until for covered in found.covered},
        frozenset(found.held),
    )
