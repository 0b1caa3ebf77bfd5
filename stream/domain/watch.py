"""One walk over closed minutes: every series, in order, through the rule and the incidents."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from crosswind.stream.domain.incident import Incident, Policy, State, Subject, Transition, advance, lapse
from crosswind.stream.domain.series import MINUTE, History, Series
from crosswind.stream.domain.surge import Rule

Open = dict[Series, Incident]


@dataclass(frozen=True, slots=True)
class Watch:
    """A rule at work on one run."""

    run: str
    rule: Rule
    policy: Policy

    def over(
        self, histories: Mapping[Series, History], opened: Mapping[Series, Incident], first: datetime, last: datetime
    ) -> tuple[Open, list[Transition]]:
        """Evaluates every minute from `first` to `last`, inclusive.

        Args:
            histories: of every series that has `rule.least` negatives in any of these windows, and of every series
                that has an open incident; more do no harm.
            opened: the incidents that are open before `first`.

        Returns:
            the incidents open after `last`, and the transitions in order.
        """
        # Parents first, so that they silence their children in the same minute.
        order = sorted(histories, key=lambda series: (series.parent is not None, series))
        busy = {series: histories[series].busy(first, last, self.rule.window, self.rule.least) for series in order}
        current, transitions = dict(opened), list[Transition]()
        for step in range((last - first) // MINUTE + 1):
            for series in order:
                if series in current or busy[series][step]:
                    transitions += self._step(current, series, histories[series], first + step * MINUTE)
        return current, transitions

    def _step(self, current: Open, series: Series, history: History, at: datetime) -> tuple[Transition, ...]:
        incident = current.pop(series, None)
        if series.parent in current and (incident is None or incident.state is State.PENDING):
            return (lapse(incident, at),) if incident else ()
        subject = Subject(self.run, self.rule.name, self.rule.version, series)
        after, changes = advance(incident, self.rule.evaluate(history, at), at, subject, self.policy)
        if after:
            current[series] = after
        return changes
