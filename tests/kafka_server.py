"""Apache Kafka's own server (KRaft, one node) for tests and benchmarks: jars from Maven Central, run by `java`.

It listens on loopback only. `kill` and then `start` on the same data prove durability. Where Maven or Java does not
answer, `Unavailable` says why in one line, and tests skip with it.
"""

import base64
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from crosswind.stream.adapters.kafka.embedded import die_with_parent, free_port

POM = Path(__file__).parent / "kafka" / "pom.xml"
JARS = Path(__file__).parents[1] / "build" / "kafka"
FETCH_SECONDS, START_SECONDS, STOP_SECONDS = 300.0, 60.0, 20.0
JAVA = 17
_JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")  # fmt: skip


class Unavailable(Exception):
    """Apache Kafka cannot be had on this machine; the message is one line."""


def version() -> str:
    """Kafka's version, as the pom has it."""
    found = re.search(r"<kafka\.version>([^<]+)</kafka\.version>", POM.read_text("utf-8"))
    assert found, f"{POM} names no kafka.version"
    return found[1]


def fetch() -> Path:
    """The folder with Kafka's jars; fetched once, into an ignored folder.

    Raises:
        Unavailable: Java is missing or too old, or Maven is missing or does not answer.
    """
    _check_java()
    folder = JARS / version()
    if any(folder.glob("kafka_2.13-*.jar")):
        return folder
    if shutil.which("mvn") is None:
        raise Unavailable("no Apache Kafka: `mvn` is not installed, which fetches its jars")
    partial = folder.with_name(f"{folder.name}.part")
    command = ["mvn", "-B", "-q", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime",
               f"-DoutputDirectory={partial}"]  # fmt: skip
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=FETCH_SECONDS, stdin=subprocess.DEVNULL)
    except (subprocess.SubprocessError, OSError) as error:
        raise Unavailable(f"no Apache Kafka: Maven did not bring its jars ({type(error).__name__})") from error
    partial.replace(folder)
    return folder


def _check_java() -> None:
    try:
        found = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True, timeout=60).stderr
    except (subprocess.SubprocessError, OSError) as error:
        raise Unavailable(f"no Apache Kafka: `java` does not answer ({type(error).__name__})") from error
    release = re.search(r'version "(\d+)', found)
    if release is None or int(release[1]) < JAVA:
        raise Unavailable(f"no Apache Kafka: it needs Java {JAVA} or newer, found {found.splitlines()[0]}")


class KafkaServer:
    """One broker that is its own controller; `address` is its `host:port`, the same after every restart."""

    def __init__(self, folder: Path, seed: int | None = None, secure: Mapping[str, str] | None = None) -> None:
        """`secure`: properties of a second listener, SASL_SSL, at `secure_address`."""
        self._jars = fetch()
        self._folder = folder
        self._port, self._controller = free_port(), free_port()
        self._cluster = base64.urlsafe_b64encode(random.Random(seed).randbytes(16)).decode().rstrip("=")
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"127.0.0.1:{self._port}"
        self._secure = dict(secure or {})
        self.secure_address = f"localhost:{free_port()}" if secure else ""

    @property
    def log(self) -> Path:
        """What the server printed."""
        return self._folder / "server.log"

    def start(self) -> str:
        """Formats the data folder at the first start; waits until clients are answered; returns the address."""
        self._folder.mkdir(parents=True, exist_ok=True)
        properties = self._folder / "server.properties"
        if not properties.exists():
            properties.write_text(self._properties(), "utf-8")
            tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={self._cluster}", "-c", str(properties)]
            done = subprocess.run(self._java(*tool), capture_output=True, text=True, timeout=START_SECONDS, check=False)
            assert done.returncode == 0, f"the storage tool refused: {done.stderr[-500:]}"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(properties)), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
        self._wait()
        return self.address

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nothing is said goodbye to."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """SIGTERM and waiting; SIGKILL where that takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _java(self, *arguments: str) -> list[str]:
        return ["java", *_JVM, "-cp", f"{self._jars}/*", *arguments]

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            running = self._process is not None and self._process.poll() is None
            if not running or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"Kafka did not start; see {self.log}:\n{self.log.read_text()[-1500:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        """Whether the broker is registered: its socket opens only after that."""
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=0.5).close()
        except OSError:
            return False
        return True

    def _properties(self) -> str:
        values = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{self._controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": self._folder / "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,  # 50 by default: a second of file creation for nothing
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.num.partitions": 2,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "broker.session.timeout.ms": 3000,  # a killed broker may register again only after that
            "broker.heartbeat.interval.ms": 500,
            "group.min.session.timeout.ms": 1000,
            "delete.topic.enable": "true",
        }
        if self._secure:
            for name in ("listeners", "advertised.listeners"):
                values[name] = f"{values[name]},SASL_SSL://{self.secure_address}"
            values["listener.security.protocol.map"] = f"{values['listener.security.protocol.map']},SASL_SSL:SASL_SSL"
            values |= {"inter.broker.listener.name": "PLAINTEXT", **self._secure}
        return "".join(f"{name}={value}\n" for name, value in values.items())


@pytest.fixture(scope="session")
def kafka_jars() -> Path:
    """Kafka's jars; the test is skipped where they cannot be had."""
    try:
        return fetch()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def kafka(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Apache Kafka that the session's tests share: use topics and groups of your own."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    yield server.start()
    server.stop()


@pytest.fixture
def own_kafka(kafka_jars: Path, tmp_path: Path) -> Iterator[KafkaServer]:
    """An Apache Kafka of the test's own, to be killed."""
    server = KafkaServer(tmp_path / "kafka")
    server.start()
    yield server
    server.stop()
