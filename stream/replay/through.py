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

import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError
from sqlalchemy import Engine, text

from crosswind.errors import BrokerError, ServiceError, SettingsError
from crosswind.settings import Settings, load_settings
from crosswind.stream.adapters.kafka.embedded import die_with_parent
from crosswind.stream.adapters.kafka.security import client_options
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE, ensure_topics
from crosswind.stream.adapters.postgres.alerts import PostgresAlertUnit, transitions_after
from crosswind.stream.domain.contract import RawNews, encode, encode_scored
from crosswind.stream.domain.watermark import Watermark
from crosswind.stream.replay.closed import Teller
from crosswind.stream.replay.columns import articles_of
from crosswind.stream.replay.engine import Replayer
from crosswind.stream.replay.inprocess import Outcome, Plan
from crosswind.stream.replay.ledger import Ledger, advance
from crosswind.stream.replay.log import Numbers, digest, line
from crosswind.stream.replay.sources import Unscored
from crosswind.stream.replay.stage import Clock, Stage
from crosswind.stream.service.alerting import AlertEngine, AlertUnit

NEVER = 10**9
"""Lateness, in seconds, with which the run's worker closes nothing."""
STORE_SECONDS = 300.0
RESTARTS = 5
FOR_GOOD = 36_500
"""Days that the run's worker keeps rows, where there is a retention: a replay is kept until it is deleted."""
TABLES = ("outbox", "transition", "incident", "engine", "watermark", "duplicate", "bucket", "bucket_hour",
          "score_version", "article_meaning", "article_version", "translation", "story_member", "story", "article",
          "silence", "verdict", "deployment", "deployment_event", "retention", "replay_run")  # fmt: skip
"""Every table that has rows of a run, but `subscription`: those are people's own."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where the run lives.

    Attributes:
        notify: the alerts go to the live `alerts` topic, too; else to the run's own.
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
    found = load_settings({
        "kafka": way.kafka, "database_url": way.database_url, "run": run, "group": f"replay-{run}",
        "raw_topic": f"replay.{run}.raw", "scored_topic": f"replay.{run}.scored", "dead_topic": f"replay.{run}.dead",
        "alerts_topic": "alerts" if way.notify else f"replay.{run}.alerts", "partitions": way.partitions,
        "lateness_seconds": NEVER, "data_dir": data_dir, **way.worker_settings,
    })  # fmt: skip
    limited = [name for name in ("keep_articles_days", "keep_minutes_days") if getattr(found, name) is not None]
    return found.model_copy(update=dict.fromkeys(limited, FOR_GOOD))


@dataclass(frozen=True, slots=True)
class ClosedUnit(PostgresAlertUnit):
    """A transaction on the run's rows, with event time as the replay has it."""

    mark: datetime | None = None

    def watermark(self, idle_seconds: float) -> datetime | None:
        """See `AlertUnit.watermark`."""
        return self.mark


@dataclass(slots=True)
class ClosedStore:
    """Implements `AlertStore`; the worker evaluates nothing, so no lock is needed against it."""

    engine: Engine
    mark: datetime | None = None

    @contextmanager
    def begin(self, run: str) -> Iterator[AlertUnit | None]:
        """See `AlertStore.begin`."""
        with self.engine.begin() as connection:
            yield ClosedUnit(connection, run, self.mark)


class RunWorker:
    """The run's worker process; started again when it is killed."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._log = settings, folder / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def ensure(self) -> None:
        """Starts it when it is not running.

        Raises:
            ServiceError: it ended again and again.
        """
        if self.pid is not None:
            return
        if self._starts > RESTARTS:
            raise ServiceError(f"the replay's worker ended {self._starts} times; see {self._log}")
        self._starts += 1
        names = (name for name in Settings.model_fields if getattr(self._settings, name) is not None)
        given = {f"CROSSWIND_{name.upper()}": self._text(name) for name in names}
        folder = str(Path(__file__).resolve().parents[2])
        paths = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "crosswind", "worker"], env={**os.environ, "PYTHONPATH": paths, **given},
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent,
            )  # fmt: skip

    def stop(self) -> None:
        """Ends it: SIGTERM, SIGKILL after ten seconds."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _text(self, name: str) -> str:
        value = getattr(self._settings, name)
        return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)


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
        return Outcome(finished, self._stage.rows, 0, transitions, fired, first, last, self._evaluated(), seconds, path,
                       digest(path))  # fmt: skip


def write_log(engine: Engine, run: str, path: Path) -> tuple[int, int]:
    """Writes the canonical log of a run's rows, also of `live`; returns how many transitions, and fired."""
    numbers, seq, fired = Numbers(), 0, 0
    with path.open("wb") as file:
        while alerts := transitions_after(engine, run, seq, 1000):
            file.writelines(line(alert, numbers) for alert in alerts)
            fired += sum(alert.cause == "fired" for alert in alerts)
            seq = alerts[-1].seq
    return seq, fired


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


def _raw(piece: pa.Table) -> Iterator[tuple[bytes, bytes, int]]:
    for row in piece.to_pylist():
        news = RawNews(source=row["source"], title=row["title"], published_at=row["published_at"], id=row["given_id"],
                       url=row["url"], body=row["body"] or None, lang=row["lang"],
                       entities=row["entities"])  # fmt: skip
        yield (row["given_id"] or row["source"]).encode(), encode(news), int(row["first_seen_at"].timestamp() * 1000)


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
