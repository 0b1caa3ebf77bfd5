"""Topics: what they are called, how many partitions, how large a message may be."""

from collections.abc import Iterable

from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from crosswind.errors import BrokerError
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.security import client_options

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes. Far above `max_bytes`: an oversized message must reach the worker to be dead-lettered, whole."""


def ensure_topics(settings: Settings, bootstrap: str, *, replication: int = -1) -> None:
    """Creates the topics that are missing; leaves those that exist as they are.

    Retention by time is off: the broker would silently delete back-dated events of a replay. Records of the live run
    bear the broker's time, whatever a producer's clock says; those of a replay the time of then.

    Raises:
        BrokerError: the broker cannot be reached or refuses.
    """
    names = (settings.raw_topic, settings.scored_topic, settings.dead_topic, settings.alerts_topic)
    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000, **client_options(settings))
        try:
            known = set(admin.list_topics())
            _create(admin, [name for name in names if name not in known], settings, replication)
        finally:
            admin.close()
    except KafkaError as error:
        raise BrokerError(f"cannot prepare topics on {bootstrap}: {error}; is Kafka running there?") from error


def _create(admin: KafkaAdminClient, names: Iterable[str], settings: Settings, replication: int) -> None:
    stamped = "LogAppendTime" if settings.run == "live" else "CreateTime"
    configs = {"retention.ms": "-1", "max.message.bytes": str(MAX_MESSAGE), "message.timestamp.type": stamped}
    for name in names:
        try:
            admin.create_topics([NewTopic(name, settings.partitions, replication, topic_configs=configs)])
        except TopicAlreadyExistsError:  # another process was quicker
            continue
