"""An `AlertStore` on a ledger: the live engine evaluates a replay with it, in memory."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.incident import Incident
from crosswind.stream.domain.notice import Orders
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.domain.series import History, Series
from crosswind.stream.domain.universe import Universe
from crosswind.stream.replay.ledger import Ledger
from crosswind.stream.service.alerting import AlertUnit, Counted, Progress, Told


@dataclass(slots=True)
class LedgerStore:
    """Implements `AlertStore` for one set of rules on a ledger; several may share one."""

    ledger: Ledger
    state: Progress | None = None
    seq: int = 1
    closing: datetime | None = None

    @contextmanager
    def begin(self, run: str) -> Iterator[AlertUnit | None]:
        """See `AlertStore.begin`."""
        yield LedgerUnit(self)


@dataclass(frozen=True, slots=True)
class LedgerUnit:
    """Implements `AlertUnit`."""

    store: LedgerStore

    def watermark(self, idle_seconds: float) -> datetime | None:
        """See `AlertUnit.watermark`."""
        mark = self.store.ledger.watermark.event_time
        closing = self.store.closing
        return mark if closing is None or mark is None else min(mark, closing)

    def progress(self) -> Progress | None:
        """See `AlertUnit.progress`."""
        return self.store.state

    def first_minute(self, since: datetime | None) -> datetime | None:
        """See `AlertUnit.first_minute`."""
        return self.store.ledger.first_minute(since)

    def counted(self, since: datetime, evaluated_to: datetime, last: datetime) -> list[Counted]:
        """See `AlertUnit.counted`."""
        return self.store.ledger.counted(since, evaluated_to, last)

    def told(self, after: int, since: datetime, evaluated_to: datetime) -> Told:
        """Of a replay every article has its story from the start."""
        return Told(0, None)

    def histories(
        self, rules: RuleSet, first: datetime, last: datetime, wanted: Collection[Series]
    ) -> dict[Series, History]:
        """See `AlertUnit.histories`."""
        return self.store.ledger.histories(rules, first, last, wanted)

    def orders(self) -> Orders:
        """Nobody silences or acknowledges in a replay."""
        return Orders()

    def universe(self, first: datetime, last: datetime) -> Universe:
        """See `AlertUnit.universe`."""
        return self.store.ledger.universe(first, last)

    def next_seq(self) -> int:
        """See `AlertUnit.next_seq`."""
        return self.store.seq

    def save(self, progress: Progress, changed: Sequence[Incident], alerts: Sequence[Alert]) -> None:
        """See `AlertUnit.save`."""
        self.store.state = progress
        self.store.seq += len(alerts)
