"""Prometheus metrics of a worker. Every name is documented in `docs/operations.md`."""

from collections.abc import Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from crosswind.errors import Reason


class Metrics:
    """The worker's metrics, on a registry of their own so that tests can make many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.scored = Counter(
            "crosswind_articles_scored", "Articles scored and published", ["lang"], registry=self.registry
        )
        self.dead = Counter("crosswind_dead_letters", "Messages dead-lettered", ["reason"], registry=self.registry)
        for reason in Reason:  # `increase` misses what a series begins with
            self.dead.labels(reason.value)
        self.stored = Counter("crosswind_articles_stored", "Articles stored, once each", registry=self.registry)
        self.duplicates = Counter("crosswind_duplicates", "Inputs whose article was there", registry=self.registry)
        self.edits = Counter("crosswind_edits", "Inputs that edited an article that was there", registry=self.registry)
        self.redelivered = Counter("crosswind_redelivered", "Inputs delivered again", registry=self.registry)
        self.expired = Counter(
            "crosswind_expired", "Inputs older than what retention keeps; not stored", registry=self.registry
        )
        self.swept = Counter("crosswind_swept_rows", "Rows dropped by retention", ["what"], registry=self.registry)
        self.retries = Counter("crosswind_retries", "Waits for a database or broker", ["what"], registry=self.registry)
        self.alerts = Counter("crosswind_alert_transitions", "Incident transitions", ["state"], registry=self.registry)
        self.lag = Gauge(
            "crosswind_lag_articles", "Records that this worker has not committed", ["topic"], registry=self.registry
        )
        self.lag_seconds = Gauge(
            "crosswind_lag_seconds", "How far what is done lies behind now; 0 when nothing waits", ["topic"],
            registry=self.registry,
        )  # fmt: skip
        self.batch = Histogram(
            "crosswind_batch_articles",
            "Messages per micro-batch",
            registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
        )
        self.inference = Histogram(
            "crosswind_inference_seconds", "Validation and inference per micro-batch", registry=self.registry
        )
        self.store = Histogram("crosswind_store_seconds", "Database transaction per batch", registry=self.registry)
        self.provider = Gauge(
            "crosswind_inference_provider", "1 for the provider and model in use", ["provider", "model"],
            registry=self.registry,
        )  # fmt: skip
        self._reached: dict[str, datetime] = {}

    def waits(self) -> float:
        """How often anything waited for a database or broker so far."""
        return float(sum(self.retries.labels(what)._value.get() for what in ("database", "broker")))

    def done(self, topic: str, written_at: datetime, now: datetime) -> None:
        """A batch of `topic` is done, whose last record the broker received at `written_at`."""
        self._reached[topic] = written_at
        self.lag_seconds.labels(topic).set(max(0.0, (now - written_at).total_seconds()))

    def set_lag(self, lags: Mapping[str, int], now: datetime) -> None:
        """Topic -> records that are not committed; all the topics that this worker holds partitions of.

        While records wait and none is done, as in an outage, the lag in seconds grows: from when the last one that was
        done had come, or from when last nothing waited.

        A topic that it lost is another worker's: its last figures would stay, and be added to that one's.
        """
        for topic, lag in (dict.fromkeys(self._reached, 0) | dict(lags)).items():
            reached = self._reached.setdefault(topic, now) if lag else now
            self._reached[topic] = reached
            self.lag.labels(topic).set(lag)
            self.lag_seconds.labels(topic).set(max(0.0, (now - reached).total_seconds()))
