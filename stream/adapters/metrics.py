"""Prometheus metrics of a worker. Every name is documented in `docs/operations.md`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The worker's metrics, on a registry of their own so that tests can make many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.scored = Counter(
            "crosswind_articles_scored", "Articles scored and published", ["lang"], registry=self.registry
        )
        self.dead = Counter("crosswind_dead_letters", "Messages dead-lettered", ["reason"], registry=self.registry)
        self.stored = Counter("crosswind_articles_stored", "Articles stored, once each", registry=self.registry)
        self.duplicates = Counter("crosswind_duplicates", "Inputs whose article was there", registry=self.registry)
        self.redelivered = Counter("crosswind_redelivered", "Inputs delivered again", registry=self.registry)
        self.retries = Counter("crosswind_retries", "Waits for a database or broker", ["what"], registry=self.registry)
        self.alerts = Counter("crosswind_alert_transitions", "Incident transitions", ["state"], registry=self.registry)
        self.batch = Histogram(
            "crosswind_batch_articles",
            "Messages per micro-batch",
            registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
        )
        self.inference = Histogram(
            "crosswind_inference_seconds", "Validation and inference per micro-batch", registry=self.registry
        )
        self.store = Histogram("crosswind_store_seconds", "Database transaction per batch", registry=self.registry)
        self.provider = Gauge(
            "crosswind_inference_provider", "1 for the provider and model in use", ["provider", "model"],
            registry=self.registry,
        )  # fmt: skip
