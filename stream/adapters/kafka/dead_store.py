"""Reading dead letters, and replaying them to where they came from.

The order of a replay: the message goes to its source topic and the broker confirms it; only then a note that it was
replayed goes to `news.dead`. A crash between the two lets the next replay send it again, which the stream names a
duplicate: it has no further effect.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from crosswind.errors import BrokerError
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.dead_letters import PREFIX, REASON
from crosswind.stream.adapters.kafka.security import client_options
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE
from crosswind.stream.service.scoring import moment

REPLAYED = "crosswind.replayed"
"""Header of a note in `news.dead`: the id of the letter that was replayed. Its value is empty."""
REPLAY_OF = "crosswind.replay-of"
"""Header of a replayed message: `topic:partition:offset` of its letter."""
SILENCE_MS = 2000
"""So long after the last record a reading is over, wherever the broker said that the partitions end: never before."""
ANSWER_SECONDS = 30.0
"""A broker that is silent for so long before those ends is away; what was read by then would pass for everything."""
CONFIRM_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter.

    Attributes:
        letter_id: `partition:offset` in `news.dead`.
        reason: one of `Reason`'s values, or what another version wrote.
        explanation: the error's message.
        topic, partition, offset: where it came from; None when it never was a record.
        written_at: when it was dead-lettered, aware, UTC.
        replayed: whether it was replayed.
    """

    letter_id: str
    reason: str
    explanation: str
    topic: str | None
    partition: int | None
    offset: int | None
    written_at: datetime
    key: bytes | None
    value: bytes | None
    replayed: bool = False


def read_letters(settings: Settings, bootstrap: str) -> list[Letter]:
    """Every dead letter, oldest first within its partition.

    Raises:
        BrokerError: Kafka cannot be reached or refuses.
    """
    with _kafka(f"reading {settings.dead_topic}"):
        records = list(_records(settings, bootstrap))
    replayed = {_header(record, REPLAYED) for record in records}
    letters = [_letter(record) for record in records if _header(record, REPLAYED) is None]
    return [replace(letter, replayed=letter.letter_id in replayed) for letter in letters]


class Replayer:
    """Sends letters back; use as a context manager."""

    def __init__(self, settings: Settings, bootstrap: str) -> None:
        self._settings = settings
        with _kafka("connecting"):
            self._producer = KafkaProducer(
                bootstrap_servers=bootstrap, acks="all", max_request_size=MAX_MESSAGE, **client_options(settings)
            )

    def __enter__(self) -> "Replayer":
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.close(timeout=CONFIRM_SECONDS)

    def replay(self, letter: Letter, value: bytes | None) -> None:
        """Sends `value` in the letter's stead to its source topic, then notes that in `news.dead`.

        Raises:
            BrokerError: it is not noted; replaying it again is safe.
        """
        dead, source = self._settings.dead_topic, letter.topic or self._settings.raw_topic
        with _kafka(f"replaying {letter.letter_id} to {source}"):
            lineage = [(REPLAY_OF, f"{dead}:{letter.letter_id}".encode())]
            self._producer.send(source, key=letter.key, value=value, headers=lineage).get(CONFIRM_SECONDS)
            note = [(REPLAYED, letter.letter_id.encode())]
            partition = int(letter.letter_id.split(":")[0])
            self._producer.send(dead, key=letter.key, value=b"", headers=note, partition=partition).get(CONFIRM_SECONDS)


def _records(settings: Settings, bootstrap: str) -> Iterator[Any]:
    """All records there are now."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, fetch_max_bytes=4 * MAX_MESSAGE,
        max_partition_fetch_bytes=MAX_MESSAGE, **client_options(settings),
    )  # fmt: skip
    try:
        partitions = consumer.partitions_for_topic(settings.dead_topic)
        if not partitions:
            raise BrokerError(
                f"there is no topic {settings.dead_topic} at {bootstrap}: no worker has run there yet, or "
                "CROSSWIND_KAFKA or CROSSWIND_DEAD_TOPIC is wrong"
            )
        parts = [TopicPartition(settings.dead_topic, partition) for partition in sorted(partitions)]
        consumer.assign(parts)
        consumer.seek_to_beginning()
        yield from _until_now(consumer, parts)
    finally:
        consumer.close()


def _until_now(consumer: KafkaConsumer, parts: Sequence[TopicPartition]) -> Iterator[Any]:
    """What was there when it was called, though more arrives meanwhile.

    The embedded broker names the end within a partition's last batch. So reading goes on a little beyond all the ends,
    for `SILENCE_MS` in all, and a record there that is younger than the call ends its partition.

    Raises:
        BrokerError: the ends were not reached, and nothing came for `ANSWER_SECONDS`.
    """
    called, ends = time.time() * 1000, consumer.end_offsets(parts)
    over: set[TopicPartition] = set()
    last_look, heard_at = float("inf"), time.monotonic()
    while len(over) < len(parts) and time.monotonic() < last_look:
        found = consumer.poll(timeout_ms=SILENCE_MS)
        for part, records in found.items():
            for record in records:
                if record.offset >= ends[part] and record.timestamp > called:
                    over.add(part)
                if part not in over:
                    yield record
                    heard_at = time.monotonic()
        if last_look < float("inf") or _reached(consumer, ends):
            if not found:
                return
            last_look = min(last_look, time.monotonic() + SILENCE_MS / 1000)
        elif time.monotonic() > heard_at + ANSWER_SECONDS:
            raise BrokerError(
                f"the broker sent nothing for {ANSWER_SECONDS:.0f} s, before the end of the dead letters: they are "
                "not all read; try again when `crosswind status` finds the broker well"
            )


def _reached(consumer: KafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    """Whether everything before the ends was read; a position that is not known yet is not there."""
    positions = {part: consumer.position(part, timeout_ms=SILENCE_MS) for part in ends}
    return all(at is not None and at >= ends[part] for part, at in positions.items())


def _letter(record: Any) -> Letter:
    partition, offset = _header(record, PREFIX + "partition"), _header(record, PREFIX + "offset")
    return Letter(
        letter_id=f"{record.partition}:{record.offset}",
        reason=_header(record, REASON) or "unknown",
        explanation=_header(record, PREFIX + "exception.message") or "",
        topic=_header(record, PREFIX + "topic"),
        partition=int(partition) if partition else None,
        offset=int(offset) if offset else None,
        written_at=moment(record.timestamp),
        key=record.key,
        value=record.value,
    )


def _header(record: Any, name: str) -> str | None:
    found = dict(record.headers or ()).get(name)
    return found.decode("utf-8", "replace") if found is not None else None


@contextmanager
def _kafka(what: str) -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise BrokerError(f"{what} failed ({type(error).__name__}: {error}); is Kafka running there?") from error
