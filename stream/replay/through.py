"""A replay through Kafka and the live agents, into a run of its own.

The order, which a log without gaps rests on:

 1. A step of the staged feed is produced into the run's own topics, which have no time retention.
 2. A worker of the run scores it (unscored articles) and stores it, exactly as live. It closes no bucket: with such a
    lateness nothing ever is.
 3. When every article of the step is stored, this process gives stories and evaluates what has closed, with the live
    engines on the run's rows. Which step an article comes with does not depend on partitions, batches or speed.
 4. The engine commits how far it is. A killed replay goes on from there; what is produced again has no effect.

Agents, stories and alerts go by `published_at`. So that is what an article is sent with: the time at which it counts by
the replay's clock.
"""

import time
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from kafka import KafkaProducer
from kafka.errors import KafkaError
from sqlalchemy import Engine, text

from crosswind.errors import BrokerError, ServiceError, SettingsError
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.security import client_options
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE, ensure_topics
from crosswind.stream.adapters.postgres.alerts import transitions_after
from crosswind.stream.domain.contract import RawNews, encode, encode_scored
from crosswind.stream.domain.watermark import Watermark
from crosswind.stream.replay.closed import ClosedStore, Teller
from crosswind.stream.replay.columns import articles_of
from crosswind.stream.replay.engine import Replayer
from crosswind.stream.replay.inprocess import Outcome, Plan
from crosswind.stream.replay.judging import Unscored
from crosswind.stream.replay.ledger import Ledger
from crosswind.stream.replay.log import Numbers, digest, line
from crosswind.stream.replay.stage import Clock, Stage
from crosswind.stream.replay.times import advance
from crosswind.stream.replay.way import Way, settings_of
from crosswind.stream.replay.worker import RunWorker
from crosswind.stream.service.alerting import AlertEngine

STORE_SECONDS = 300.0


def replay_through_kafka(stage: Stage, plan: Plan, way: Way, data_dir: Path) -> Outcome:
    """Replays a staged feed through the agents, or goes on where a killed one was.

    Raises:
        CrosswindError: broker, database or worker cannot be used.
    """
    begun = time.monotonic()
    if plan.clock is Clock.KNOWN:
        _check_named(stage)
    settings = settings_of(plan.run, way, data_dir)
    ensure_topics(settings, way.kafka)
    worker = RunWorker(settings, plan.folder)
    driver = _Driver(stage, plan, way, settings, worker)
    try:
        producer = KafkaProducer(bootstrap_servers=way.kafka.split(","), acks="all", max_request_size=MAX_MESSAGE,
                                 linger_ms=5, **client_options(settings))  # fmt: skip
    except KafkaError as error:
        raise BrokerError(f"cannot reach Kafka at {way.kafka}: {error}") from None
    try:
        finished = driver.play(producer)
    finally:
        producer.close()
        worker.stop()
    return driver.outcome(finished, time.monotonic() - begun)


def _check_named(stage: Stage) -> None:
    """Whether the worker will know each article by the id that it has in the stage.

    Where its source gives none, the worker makes it of what is sent, and an article that counts later than it says is
    sent with another time. One that has a score is sent with its id.

    Raises:
        SettingsError: there are such articles.
    """
    nameless = 0
    for table in stage.read():
        moved = pc.and_(pc.equal(table["model"], Unscored.version), pc.is_null(table["given_id"]))
        nameless += pc.sum(pc.and_(moved, pc.not_equal(table["event_at"], table["published_at"]))).as_py() or 0
    if nameless:
        raise SettingsError(
            f"{nameless:,} articles came late and have neither an id of their source nor a score, so that with --clock "
            "known the worker would give them other ids; leave out --through-kafka, or pass --clock published"
        )


class _Driver:
    def __init__(self, stage: Stage, plan: Plan, way: Way, settings: Settings, worker: RunWorker) -> None:
        self._stage, self._plan, self._way, self._settings, self._worker = stage, plan, way, settings, worker
        self._store = ClosedStore(way.engine)
        self._engine = AlertEngine(self._store, plan.run, plan.lateness, 0.0, lambda: plan.rules)
        self._teller = Teller(way.engine, plan.run, plan.lateness, plan.stories)
        self._mark = Watermark()
        self._sent = 0

    def play(self, producer: Any) -> bool:
        since = self._resume()
        plan = self._plan
        plan.total(self._stage.rows, self._sent)
        cutter = Replayer(Ledger(), [], plan.pace, plan.batch, stop=plan.stop)
        for table in self._stage.read(since):
            for piece in cutter.cut(table):
                if plan.stop():
                    return False
                cutter.hold(piece["event_at"][0].as_py())
                self._send(producer, piece)
                self._mark = advance(self._mark, piece["event_at"].cast(pa.int64()).to_numpy())
                self._wait(piece)
                self._evaluate()
                plan.progress(len(piece))
        return True

    def _resume(self) -> datetime | None:
        """Where to go on: after the last evaluated minute, whose articles are all stored."""
        with self._way.engine.connect() as connection:
            query = text("SELECT evaluated_to FROM engine WHERE run = :run")
            at = connection.execute(query, {"run": self._plan.run}).scalar_one_or_none()
        if at is None:
            return None
        since: datetime = at + timedelta(minutes=1)
        self._sent = self._stage.count_before(since)
        return since

    def _send(self, producer: Any, piece: pa.Table) -> None:
        piece = piece.set_column(piece.column_names.index("published_at"), "published_at", piece["event_at"])
        unscored = pc.equal(piece["model"], Unscored.version)
        encoded = {self._settings.raw_topic: _raw(piece.filter(unscored)),
                   self._settings.scored_topic: self._scored(piece.filter(pc.invert(unscored)))}  # fmt: skip
        try:
            sent = [producer.send(topic, key=key, value=value, timestamp_ms=at)
                    for topic, messages in encoded.items() for key, value, at in messages]  # fmt: skip
            producer.flush()
            for confirmation in sent:
                confirmation.get(60)
        except KafkaError as error:
            raise BrokerError(
                f"sending articles of run {self._plan.run} failed: {error}; resume it when Kafka is back"
            ) from None
        self._sent += len(piece)

    def _scored(self, piece: pa.Table) -> Iterator[tuple[bytes, bytes, int]]:
        for scored in articles_of(piece, self._settings.raw_topic, self._sent):
            at = int(scored.article.first_seen_at.timestamp() * 1000)
            yield scored.article.article_id.encode(), encode_scored(scored), at

    def _wait(self, piece: pa.Table) -> None:
        """Until every article of the step is stored. A count would not do: a killed run may have sent later ones."""
        deadline = time.monotonic() + STORE_SECONDS
        missing = set(piece["article_id"].to_pylist())
        while missing := missing - self._stored(missing):
            self._worker.ensure()
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"articles of run {self._plan.run} are not stored; see {self._plan.folder}/worker.log"
                )
            time.sleep(0.02)

    def _stored(self, ids: Collection[str]) -> set[str]:
        with self._way.engine.connect() as connection:
            query = text("SELECT article_id FROM article WHERE run = :run AND article_id = ANY(:ids)")
            return set(connection.execute(query, {"run": self._plan.run, "ids": list(ids)}).scalars())

    def _evaluate(self) -> None:
        self._store.mark = self._mark.event_time
        self._teller.tell(self._mark.event_time)
        while True:
            before = self._evaluated()
            for alert in self._engine.tick():
                self._plan.on_alert(alert)
            if self._evaluated() == before:
                return

    def _evaluated(self) -> datetime | None:
        with self._way.engine.connect() as connection:
            query = text("SELECT evaluated_to FROM engine WHERE run = :run")
            at: datetime | None = connection.execute(query, {"run": self._plan.run}).scalar_one_or_none()
        return at

    def outcome(self, finished: bool, seconds: float) -> Outcome:
        path = self._plan.folder / "alerts.jsonl"
        transitions, fired = write_log(self._way.engine, self._plan.run, path)
        first, last = self._stage.span or (None, None)
        return Outcome(finished, self._stage.rows, self._plan.bad, transitions, fired, first, last, self._evaluated(),
                       seconds, path, digest(path))  # fmt: skip


def _raw(piece: pa.Table) -> Iterator[tuple[bytes, bytes, int]]:
    for row in piece.to_pylist():
        news = RawNews(source=row["source"], title=row["title"], published_at=row["published_at"], id=row["given_id"],
                       url=row["url"], body=row["body"] or None, lang=row["lang"],
                       entities=row["entities"])  # fmt: skip
        yield (row["given_id"] or row["source"]).encode(), encode(news), int(row["first_seen_at"].timestamp() * 1000)


def write_log(engine: Engine, run: str, path: Path) -> tuple[int, int]:
    """Writes the canonical log of a run's rows, also of `live`; returns how many transitions, and fired."""
    numbers, seq, fired = Numbers(), 0, 0
    with path.open("wb") as file:
        while alerts := transitions_after(engine, run, seq, 1000):
            file.writelines(line(alert, numbers) for alert in alerts)
            fired += sum(alert.cause == "fired" for alert in alerts)
            seq = alerts[-1].seq
    return seq, fired
