"""`crosswind up`: broker, database, worker and dashboard on one machine, a feed played through them, alerts printed."""

import contextlib
import io
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
from sqlalchemy import Engine
from tqdm import tqdm

from crosswind.children import Child
from crosswind.errors import CrosswindError, DatabaseError, ServiceError
from crosswind.export.bundle import resolve, verify
from crosswind.ports import listens, refuse_taken
from crosswind.running import Claim, claim
from crosswind.settings import Settings
from crosswind.status import local_url
from crosswind.stream.adapters.kafka.embedded import EmbeddedBroker, free_port
from crosswind.stream.adapters.kafka.topics import ensure_topics
from crosswind.stream.adapters.postgres.alerts import last_seq, transitions_after
from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres
from crosswind.stream.adapters.postgres.engine import connect, migrate
from crosswind.stream.adapters.postgres.reader import make as make_reader
from crosswind.stream.adapters.postgres.reader import reader_url
from crosswind.stream.bootstrap import database_address
from crosswind.stream.domain.contract import Alert
from crosswind.stream.feed.player import open_feed, play
from crosswind.stream.notify.domain.subscription import Filter, Told, over

PROCESSES = ("worker", "dashboard", "notify")
"""What is started, each a command of ours; docker-compose.yml has a service for each."""
START_SECONDS = 60.0
REMEMBERED = 1000
"""Transitions of an earlier run that are looked at for what was told and is not over."""
LONGEST_PAUSE = 5.0
"""Seconds between two tries to ask a database that is away; it begins with a tenth of a second and doubles."""
STOP_SECONDS = 5.0
"""Children get this long after SIGTERM; broker and database come after them, within ten seconds in all."""


class Stopped(Exception):
    """A signal asked us to stop."""


def run_up(settings: Settings, *, play_feed: bool) -> int:
    """Runs until Ctrl-C or SIGTERM; returns the exit status, 0 when stopped on purpose.

    Raises:
        CrosswindError: a part did not start, or died too often. Everything is stopped by then.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # in a pipe or a file, alerts must be seen when they fire
        sys.stdout.reconfigure(line_buffering=True)
    verify(resolve(settings.model), settings.trusted_key)  # first: the commonest mistake is a wrong path
    held = claim(settings.data_dir)
    with contextlib.ExitStack() as stack:
        stack.callback(held.release)
        refuse_taken(settings.host, settings.port, "is another `crosswind up` there? pass --port, 0 for any free one")
        refuse_taken(settings.worker_host, settings.worker_port, "unset CROSSWIND_WORKER_PORT for any free one")
        _stop_on_signals(stack)
        try:
            _run(settings, held, play_feed, stack)
        except Stopped:
            tqdm.write("stopping …")
            _ignore_signals()
    tqdm.write(f"stopped; the database in {settings.data_dir} is kept")
    return 0


def _run(settings: Settings, held: Claim, play_feed: bool, stack: contextlib.ExitStack) -> None:
    postgres = None if settings.database_url else _start_postgres(settings, stack)
    url = postgres.address if postgres else database_address(settings)
    engine = connect(url)
    stack.callback(engine.dispose)
    if not settings.database_url:
        make_reader(engine)  # before the migration, which gives it its rights
    migrate(engine)
    broker = None if settings.kafka else _start_broker(settings, stack)
    kafka = settings.kafka or (broker.address if broker else "")
    ensure_topics(settings, kafka)
    worker_port, port = settings.worker_port or free_port(), settings.port or free_port()
    children = _start_children(settings, kafka, url, worker_port, port, stack)
    embedded = {"kafka": kafka} if broker else {}
    embedded |= {} if settings.database_url else {"database_url": url, "read_database_url": reader_url(url)}
    model = str(resolve(settings.model).absolute())
    held.write({**embedded, "worker_port": worker_port, "port": port, "model": model})
    watch = _Watch(children, broker, postgres)
    worker, dashboard = local_url(settings.worker_host, worker_port), local_url(settings.host, port)
    watch.until(lambda: _answers(f"{dashboard}/health"), "dashboard", port)
    watch.until(lambda: _answers(f"{worker}/health/ready"), "worker", worker_port)
    tqdm.write(f"dashboard: {dashboard}/")
    printer = _AlertPrinter(engine, settings.run)
    printer.once()  # before the feed: what comes of it is news
    feed = _FeedThread(settings, kafka) if play_feed else None
    if feed:
        feed.start()
        stack.callback(feed.stop)
    while True:
        watch.once()
        printer.once()
        if feed:
            feed.report()
        time.sleep(0.2)


def _start_postgres(settings: Settings, stack: contextlib.ExitStack) -> EmbeddedPostgres:
    postgres = EmbeddedPostgres(settings.data_dir / "postgres")
    stack.callback(postgres.stop)
    postgres.start(tqdm.write)
    return postgres


def _start_broker(settings: Settings, stack: contextlib.ExitStack) -> EmbeddedBroker:
    broker = EmbeddedBroker(settings.data_dir / "logs" / "broker.log")
    stack.callback(broker.stop)
    broker.start()
    return broker


def _start_children(
    settings: Settings, kafka: str, url: str, worker_port: int, port: int, stack: contextlib.ExitStack
) -> list[Child]:
    environment = {
        "CROSSWIND_KAFKA": kafka,
        "CROSSWIND_DATABASE_URL": url,
        **({} if settings.database_url else {"CROSSWIND_READ_DATABASE_URL": reader_url(url)}),
        "CROSSWIND_MODEL": str(resolve(settings.model).absolute()),
        "CROSSWIND_DEVICE": settings.device,
        "CROSSWIND_RUN": settings.run,
        "CROSSWIND_DATA_DIR": str(settings.data_dir),
        "CROSSWIND_WORKER_PORT": str(worker_port),
        "CROSSWIND_HOST": settings.host,
        "CROSSWIND_PORT": str(port),
    }
    logs = settings.data_dir / "logs"
    children = [Child(name, [name], environment, logs / f"{name}.log") for name in PROCESSES]
    stack.callback(_stop_children, children)
    for child in children:
        child.start()
    return children


def _stop_children(children: list[Child]) -> None:
    for child in children:
        child.ask_to_stop()
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        child.make_stop(deadline)


class _Watch:
    """Keeps the children alive; a dead embedded broker ends everything, since it forgot its messages, and so does a
    dead embedded Postgres, without which nothing goes on."""

    def __init__(self, children: list[Child], broker: EmbeddedBroker | None, postgres: EmbeddedPostgres | None) -> None:
        self._children, self._broker, self._postgres = children, broker, postgres

    def once(self) -> None:
        for child in self._children:
            status = child.revive()
            if status is not None:
                tqdm.write(f"the {child.name} ended (exit {status}) and was started again; see {child.log}")
        if self._broker and not self._broker.running:
            raise ServiceError("the embedded broker died; its messages are gone, the database is whole: start again")
        if self._postgres and not self._postgres.running:
            log = self._postgres.log
            raise ServiceError(f"the embedded Postgres died, see {log}; what it stored is kept: start again")

    def until(self, well: Callable[[], bool], name: str, port: int) -> None:
        """Waits for that child. What answers on its port while it starts, or after it has ended, is another's."""
        child = next(child for child in self._children if child.name == name)
        deadline = time.monotonic() + START_SECONDS
        while not (well() and listens(child.pid, port)):
            self.once()
            if time.monotonic() > deadline:
                raise ServiceError(f"the {name} was not ready within {START_SECONDS:.0f} s: {child.tail()}")
            time.sleep(0.1)


class _AlertPrinter:
    """Prints what one who subscribes to everything is told first of an incident, and its end.

    What an earlier run printed is not said again.
    """

    def __init__(self, engine: Engine, run: str) -> None:
        self._engine, self._run, self._told = engine, run, Told()
        self._seq: int | None = None
        self._pause = self._next = 0.0

    def once(self) -> None:
        if time.monotonic() < self._next:
            return
        try:
            if self._seq is None:
                self._seq = self._remember()
            found = transitions_after(self._engine, self._run, self._seq, 100)
        except DatabaseError as error:
            if not self._pause:  # said once for an outage
                tqdm.write(f"waiting for the database: {error}")
            self._pause = min(max(0.1, 2 * self._pause), LONGEST_PAUSE)
            self._next = time.monotonic() + self._pause
            return
        self._pause = 0.0
        for alert in found:
            self._seq = alert.seq
            news = over(alert) or not self._told.knows(alert)
            if self._told.tell(Filter(), alert) and news:
                tqdm.write(describe(alert))

    def _remember(self) -> int:
        """Takes up what was told before; returns the last transition of it."""
        last = last_seq(self._engine, self._run)
        known = min(last, REMEMBERED)
        for alert in transitions_after(self._engine, self._run, last - known, known):
            self._told.tell(Filter(), alert)
        return last


def describe(alert: Alert) -> str:
    """One line for the terminal."""
    where = alert.topic if alert.entity == "*" else alert.entity
    lang = "all languages" if alert.lang == "*" else alert.lang
    if alert.rule == "no-data":
        said = "no news arrives" if alert.state == "no_data" else "news arrives again"
        return f"{alert.at:%Y-%m-%d %H:%M} UTC  {said}"
    if alert.state == "resolved":
        return f"resolved {alert.at:%Y-%m-%d %H:%M} UTC  {where}, {lang}"
    counted = f"{alert.observed} negative articles in {alert.window} minutes, {alert.expected:.1f} expected"
    spread = f"from {alert.sources} sources in {len(alert.languages)} languages"
    return f"ALERT {alert.at:%Y-%m-%d %H:%M} UTC  bad news surges: {where}, {lang}: {counted}, {spread}"


class _FeedThread(threading.Thread):
    """Plays the feed beside the watch; its end or error is reported once."""

    def __init__(self, settings: Settings, kafka: str) -> None:
        super().__init__(name="feed", daemon=True)
        self._settings, self._kafka = settings, kafka
        self._stop_asked = threading.Event()
        self._outcome: str | None = None

    def run(self) -> None:
        settings = self._settings
        try:
            feed = open_feed(settings.feed)
            name = f"feed {Path(settings.feed).name}"
            with tqdm(total=feed.total, desc=name, unit=" articles", mininterval=1.0) as bar:
                report = play(
                    feed.rows,
                    self._kafka,
                    settings,
                    speed=settings.speed,
                    on_progress=lambda n: _advance(bar, n),
                    stop=self._stop_asked,
                )
            self._outcome = (
                f"the feed has ended: {report.sent:,} articles sent, {report.bad} bad rows; Ctrl-C stops all"
            )
        except CrosswindError as error:
            self._outcome = f"the feed stopped: {error}"
        except Exception as error:  # a thread that dies silently looks like a feed that goes on
            self._outcome = f"the feed stopped ({type(error).__name__}); `crosswind feed check` looks at its file"

    def report(self) -> None:
        if self._outcome:
            tqdm.write(self._outcome)
            self._outcome = None

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(STOP_SECONDS)


def _advance(bar: "tqdm[Any]", n: int) -> None:
    bar.update(n)


def _answers(address: str) -> bool:
    try:
        # trust_env: a proxy of the environment would look for this machine's loopback on its own
        return httpx.get(address, timeout=1.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _stop_on_signals(stack: contextlib.ExitStack) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored: `nohup` started us, to outlive the terminal
        numbers.append(signal.SIGHUP)
    for number in numbers:
        before = signal.signal(number, stop)
        stack.callback(signal.signal, number, before)


def _ignore_signals() -> None:
    """A second Ctrl-C must not interrupt the stopping: that is how processes are left behind."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
