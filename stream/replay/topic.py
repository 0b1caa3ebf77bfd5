"""A Kafka topic of scored or unscored articles, or a stretch of it."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pyarrow as pa
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from crosswind.errors import BrokerError, ContractError, DataError
from crosswind.stream.domain.article import Origin
from crosswind.stream.domain.contract import decode_raw, decode_scored
from crosswind.stream.replay.columns import Filter, table_of
from crosswind.stream.replay.judging import LARGEST, Judge, take_scored, take_unscored
from crosswind.stream.replay.sources import Source
from crosswind.stream.service.scoring import Message, received

POLL_MS = 1000
SILENCE = 60.0
"""Seconds without a record, and without an end, after which the broker is taken to answer no more."""
RECORDS = 4096
"""Records of a topic taken in at once, at most."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Part of a topic: by record times (`since` included, `until` not), or by offsets of every partition.

    Each partition is read to where it stood when the reading began, also up to an `until`: records need not ascend in
    time, so a later one may still be of the stretch.
    """

    since: datetime | None = None
    until: datetime | None = None
    first_offset: int | None = None
    end_offset: int | None = None


def open_topic(
    kafka: str,
    topic: str,
    stretch: Stretch,
    wanted: Filter,
    judge_with: Judge,
    silence: float = SILENCE,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Source:
    """A Kafka topic of `news.scored` or `news.raw` messages; both may be mixed. `options` are the client's."""
    source = Source(f"kafka:{topic}", newest=wanted.as_of is not None)

    def consumer() -> Any:
        try:
            return KafkaConsumer(bootstrap_servers=kafka.split(","), group_id=None, auto_offset_reset="earliest",
                                 max_partition_fetch_bytes=2**24, **options)  # fmt: skip
        except KafkaError as error:
            raise BrokerError(f"cannot reach Kafka at {kafka}: {error}; is it running, is the address right?") from None

    source.tables = _topic(source, consumer, topic, stretch, wanted, judge_with, silence)
    return source


def _topic(
    source: Source, connect: Callable[[], Any], topic: str, stretch: Stretch, wanted: Filter, judge_with: Judge,
    silence: float,
) -> Iterator[pa.Table]:  # fmt: skip
    consumer = connect()
    try:
        parts = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        if not parts:
            raise DataError(f"Kafka has no topic {topic}")
        consumer.assign(parts)
        _seek(consumer, parts, stretch)
        for records in _records(consumer, parts, stretch, silence):
            yield from _messages(source, records, wanted, judge_with)
    except KafkaError as error:
        raise BrokerError(f"reading {topic} failed: {error}") from None
    finally:
        consumer.close()


def _seek(consumer: Any, parts: list[Any], stretch: Stretch) -> None:
    if stretch.first_offset is not None:
        for part, end in consumer.end_offsets(parts).items():
            consumer.seek(part, min(stretch.first_offset, end))  # beyond its end it would be read from its begin
    elif stretch.since is not None:
        at = int(stretch.since.timestamp() * 1000)
        found = consumer.offsets_for_times(dict.fromkeys(parts, at))
        for part in parts:
            consumer.seek(part, found[part].offset) if found.get(part) else consumer.seek_to_end(part)
    else:
        consumer.seek_to_beginning(*parts)


def _records(consumer: Any, parts: list[Any], stretch: Stretch, silence: float) -> Iterator[list[Any]]:
    """The records of a stretch, up to where each partition stood when it was first read; a pause is no end.

    Ends are what comes with an answer, also one without records: asked for ends, the embedded broker names the begin of
    the last batch.

    Raises:
        BrokerError: partitions are not at their end, and nothing comes any more.
    """
    reading, ends, heard = set(parts), dict[Any, int](), time.monotonic()
    while reading:
        found, left = consumer.poll(POLL_MS, max_records=RECORDS), len(reading)
        for part in tuple(reading):
            stands = consumer.highwater(part)
            if stands is None:
                continue
            end = ends.setdefault(part, stands if stretch.end_offset is None else min(stands, stretch.end_offset))
            if consumer.position(part) >= end:
                consumer.pause(part)
                reading.remove(part)
        if found or len(reading) < left:
            heard = time.monotonic()
        elif time.monotonic() - heard > silence:
            raise BrokerError(f"{len(reading)} of {len(parts)} partitions could not be read to their end: nothing came "
                              f"for {silence:.0f} s; is Kafka well? Begin the replay anew when it is")  # fmt: skip
        together = itertools.chain.from_iterable(found.values())
        yield [record for record in together if _within(record, stretch, ends[_part(record)])]


def _part(record: Any) -> Any:
    return TopicPartition(record.topic, record.partition)


def _within(record: Any, stretch: Stretch, end: int) -> bool:
    """Whether a record is of the stretch; a broker may give earlier ones than those that were asked for."""
    return (
        (stretch.first_offset or 0) <= record.offset < end
        and (stretch.since is None or record.timestamp >= stretch.since.timestamp() * 1000)
        and (stretch.until is None or record.timestamp < stretch.until.timestamp() * 1000)
    )


def _messages(source: Source, records: list[Any], wanted: Filter, judge_with: Judge) -> Iterator[pa.Table]:
    scored, raw = [], []
    for record in records:
        try:
            scored.append(decode_scored(record.value))
        except ContractError:
            origin = Origin(record.topic, record.partition, record.offset)
            raw.append(Message(origin, _received(record), record.key, record.value))
    if scored:
        yield from take_scored(table_of(scored), wanted, judge_with)
    yield from take_unscored(source, raw, wanted, judge_with)


def _received(record: Any) -> datetime:
    """When a record was received; where its time cannot be, when its article says that it was published."""
    now = datetime.now(UTC)
    at = received(record.timestamp, now)
    if at is now:
        with contextlib.suppress(ContractError):
            at = min(now, decode_raw(record.value, LARGEST).published_at)
    return at
