"""Messages to a Kafka topic of the subscriber's own, on the embedded broker."""

import asyncio
import json
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer
from sqlalchemy import Engine

from crosswind.settings import load_settings
from crosswind.stream.adapters.postgres.outbox import PostgresOutbox
from crosswind.stream.notify.adapters.senders import Senders
from crosswind.stream.notify.domain.subscription import Channel
from crosswind.stream.notify.service.dispatcher import Dispatcher
from tests.notify_helpers import KEY, VAULT, alert, fire, rows, subscribe


def test_a_message_lands_in_the_topic(engine: Engine, broker: str) -> None:
    subscribe(engine, "alerts.desk", Channel.KAFKA)
    fire(engine, alert())
    settings = load_settings({"seal_key": KEY, "kafka": broker})

    async def work() -> bytes:
        stop = asyncio.Event()
        async with Senders(settings, VAULT) as send:
            dispatcher = Dispatcher(PostgresOutbox(engine), send, "d", lambda: datetime.now(UTC))
            running = asyncio.create_task(dispatcher.run(stop))
            consumer = AIOKafkaConsumer("alerts.desk", bootstrap_servers=broker, auto_offset_reset="earliest")
            async with asyncio.timeout(60):
                while not (await asyncio.to_thread(rows, engine, "SELECT 1 FROM message WHERE state = 'sent'")):
                    await asyncio.sleep(0.1)
                await consumer.start()
                value = bytes((await consumer.getone()).value)
            await consumer.stop()
            stop.set()
            await running
            return value

    assert json.loads(asyncio.run(work()))["data"]["alerts"][0]["incident_id"] == "inc1"
