"""Silences: what need not be told for a while. A silenced incident lives on; only its notices are marked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from crosswind.errors import SettingsError

FIELDS = ("rule", "severity", "topic", "lang", "entity")
OPERATORS = ("!=", "!~", "=", "~")


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a field of an incident: `=`, `!=`, or `~` and `!~` with * and ? for any text and character."""

    field: str
    operator: str
    value: str

    def holds(self, labels: dict[str, str]) -> bool:
        """Whether the labels satisfy it.

        >>> Matcher("topic", "~", "cr*").holds({"topic": "credit"})
        True
        """
        found = labels[self.field]
        same = fnmatchcase(found, self.value) if "~" in self.operator else found == self.value
        return same != self.operator.startswith("!")


def parse_matcher(text: str) -> Matcher:
    """A matcher as people write it, e.g. `topic=credit` or `entity!~Bank*`.

    >>> parse_matcher("lang!=de")
    Matcher(field='lang', operator='!=', value='de')

    Raises:
        SettingsError: it is not one.
    """
    for operator in OPERATORS:
        field, found, value = text.partition(operator)
        if found and field.strip() in FIELDS and value:
            return Matcher(field.strip(), operator, value.strip())
    raise SettingsError(f"{text!r} is no matcher; expected one of {', '.join(FIELDS)}, then =, !=, ~ or !~, then text")


@dataclass(frozen=True, slots=True)
class Silence:
    """Incidents that match all of some matchers are silent from `starts_at` until just before `ends_at`, event time."""

    silence_id: str
    matchers: tuple[Matcher, ...]
    starts_at: datetime
    ends_at: datetime

    def holds(self, labels: dict[str, str], at: datetime) -> bool:
        """Whether it silences such an incident at a minute."""
        return self.starts_at <= at < self.ends_at and all(matcher.holds(labels) for matcher in self.matchers)


def silenced(silences: Sequence[Silence], labels: dict[str, str], at: datetime) -> bool:
    """Whether any of them silences such an incident at a minute."""
    return any(silence.holds(labels, at) for silence in silences)
