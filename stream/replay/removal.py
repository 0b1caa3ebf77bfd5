"""What is left of a replay through Kafka is removed: the run's rows and topics."""

from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from sqlalchemy import Engine, text

from crosswind.errors import BrokerError
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.security import client_options

TABLES = ("outbox", "transition", "incident", "engine", "watermark", "duplicate", "bucket", "bucket_hour",
          "score_version", "article_meaning", "article_version", "translation", "story_member", "story", "article",
          "silence", "verdict", "deployment", "deployment_event", "retention", "replay_run")  # fmt: skip
"""Every table that has rows of a run, but `subscription`: those are people's own."""


def delete_rows(engine: Engine, run: str) -> int:
    """Removes a run's rows from every table; returns how many articles it had."""
    with engine.begin() as connection:
        known = set(connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars())
        found = 0
        for table in TABLES:
            if table in known:
                gone = connection.execute(text(f"DELETE FROM {table} WHERE run = :run"), {"run": run}).rowcount
                found = gone if table == "article" else found
    return found


def delete_topics(kafka: str, run: str, settings: Settings) -> list[str]:
    """Removes a run's topics; returns their names."""
    try:
        admin = KafkaAdminClient(bootstrap_servers=kafka.split(","), request_timeout_ms=10_000,
                                 **client_options(settings))  # fmt: skip
    except KafkaError as error:
        raise BrokerError(f"cannot reach Kafka at {kafka}: {error}") from None
    try:
        names = [name for name in admin.list_topics() if name.startswith(f"replay.{run}.")]
        if names:
            admin.delete_topics(names)
        return sorted(names)
    except KafkaError as error:
        raise BrokerError(f"the topics of run {run} are not deleted: {error}") from None
    finally:
        admin.close()
