"""Where a replay through Kafka lives, and the settings of the run's worker there."""

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine

from crosswind.settings import Settings, load_settings

NEVER = 10**9
"""Lateness, in seconds, with which the run's worker closes nothing."""
FOR_GOOD = 36_500
"""Days that the run's worker keeps rows, where there is a retention: a replay is kept until it is deleted."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where the run lives.

    Attributes:
        notify: the alerts go to the live topic (`CROSSWIND_ALERTS_TOPIC`) instead of the run's own.
        worker_settings: more settings of the worker, by name.
    """

    kafka: str
    database_url: str
    engine: Engine
    partitions: int = 4
    notify: bool = False
    worker_settings: dict[str, str] = field(default_factory=dict)


def settings_of(run: str, way: Way, data_dir: Path) -> Settings:
    """The settings of the run's worker: topics, group and rows of its own."""
    own = {} if way.notify else {"alerts_topic": f"replay.{run}.alerts"}
    found = load_settings({
        "kafka": way.kafka, "database_url": way.database_url, "run": run, "group": f"replay-{run}",
        "raw_topic": f"replay.{run}.raw", "scored_topic": f"replay.{run}.scored", "dead_topic": f"replay.{run}.dead",
        "partitions": way.partitions, "lateness_seconds": NEVER, "data_dir": data_dir, **own, **way.worker_settings,
    })  # fmt: skip
    limited = [name for name in ("keep_articles_days", "keep_minutes_days") if getattr(found, name) is not None]
    return found.model_copy(update=dict.fromkeys(limited, FOR_GOOD))
