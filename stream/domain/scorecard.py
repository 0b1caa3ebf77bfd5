"""What the alarms of a version of a rule are counted by, so that they can be held against its budget."""

from collections.abc import Collection
from dataclasses import dataclass

from crosswind.stream.domain.rules import Per, RuleSet
from crosswind.stream.domain.series import Series
from crosswind.stream.domain.watch import NO_DATA


@dataclass(frozen=True, slots=True)
class Measure:
    """By what the alarms of one version of a rule are counted.

    What a version that is no longer in use watched is not kept. It is counted by the series that the rule of its name
    watches now; where no rule has its name any more, for the whole rule.

    Attributes:
        per: `SERIES`: for each series that it watches; `RULE`: for the whole rule, whatever it watches.
        series: how many it watches; None: not known, or it is the silent feed's, which watches none.
        at_most: its budget, false alarms a month, `per` the same; None: not known, or it has none.
        current: whether this very version is in use.
    """

    per: Per
    series: int | None
    at_most: float | None
    current: bool

    def per_month(self, alarms: int, months: float) -> float:
        """Alarms in so many months (above 0) as a rate: of each series, or of the whole rule.

        >>> Measure(Per.SERIES, 4, None, True).per_month(6, 3.0), Measure(Per.RULE, 4, None, True).per_month(6, 3.0)
        (0.5, 2.0)
        """
        # At least one series: it has alarmed.
        return alarms / months / (max(self.series or 0, 1) if self.per is Per.SERIES else 1)


def measure(rules: RuleSet, name: str, version: str, universe: Collection[Series]) -> Measure:
    """By what to count the alarms of a version of a rule.

    Args:
        rules: those in use.
        universe: the series that had an article in the time looked at, each once.
    """
    rule = next((rule for rule in rules.rules if rule.name == name), None)
    if rule is None:
        return Measure(Per.RULE, None, None, name == NO_DATA and version == rules.version)
    current = rule.version == version
    series = sum(rule.match.holds(one) for one in universe)
    return Measure(rule.budget.per, series, rule.budget.at_most if current else None, current)
