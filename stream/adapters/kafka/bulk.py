"""Publishing many records at once: whole batches, one per partition, instead of one `send` per record.

A `send` through Faust costs about 100 µs, a record appended to a batch about 5. A record's partition is the CRC-32 of
its key: the client's own hash is Python, byte by byte, and cost as much as everything else here.
"""

import asyncio
from collections.abc import Iterable, Sequence
from zlib import crc32

from aiokafka import AIOKafkaProducer

Record = tuple[bytes, bytes, Sequence[tuple[str, bytes]]]
"""Key, value and headers."""


async def send_bulk(producer: AIOKafkaProducer, topic: str, records: Iterable[Record]) -> None:
    """Sends records, those of one key to one partition; returns when the broker confirmed each of them.

    Order is kept within a partition.

    Raises:
        KafkaError: some may be published and some not; sending all of them again is a redelivery.
    """
    partitions = sorted(await producer.partitions_for(topic))
    by_partition: dict[int, list[Record]] = {}
    for record in records:
        by_partition.setdefault(partitions[crc32(record[0]) % len(partitions)], []).append(record)
    sent = [await _submit(producer, topic, partition, found) for partition, found in by_partition.items()]
    outcomes = await asyncio.gather(*(one for batch in sent for one in batch), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def _submit(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Iterable[Record]
) -> list["asyncio.Future[object]"]:
    """Hands batches to the producer; one more whenever one is full."""
    sent = []
    batch = producer.create_batch()
    for key, value, headers in records:
        if batch.append(key=key, value=value, timestamp=None, headers=list(headers)) is None:
            batch.close()
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None, headers=list(headers))
    batch.close()
    sent.append(await producer.send_batch(batch, topic, partition=partition))
    return sent
