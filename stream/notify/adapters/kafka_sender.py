"""Messages to a Kafka topic of the subscriber's own."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from crosswind.stream.notify.service.dispatcher import Reply


class KafkaSender:
    """Sends and waits for the brokers' word (acks=all).

    Args:
        bootstrap: host:port[,host:port]; None: there is no Kafka.
        options: of aiokafka's producer, for TLS and log-in.
    """

    def __init__(self, bootstrap: str | None, options: Mapping[str, Any]) -> None:
        self._bootstrap, self._options = bootstrap, options
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()

    async def send(self, topic: str, message_id: str, body: bytes) -> Reply:
        """One attempt; key and header `webhook-id` are the message's id."""
        if not self._bootstrap:
            return Reply(None, "no Kafka address: set CROSSWIND_KAFKA")
        try:
            producer = await self._started()
            key = message_id.encode()
            await producer.send_and_wait(topic, body, key=key, headers=[("webhook-id", key)])
        except (KafkaError, OSError) as error:
            return Reply(None, type(error).__name__)
        return Reply(200)

    async def _started(self) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None:
                producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all", **self._options)
                await producer.start()
                self._producer = producer
            return self._producer

    async def close(self) -> None:
        """Ends its connections."""
        if self._producer:
            await self._producer.stop()
