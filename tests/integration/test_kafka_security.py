"""Kafka over TLS with a log-in, on the real Kafka with a certificate made here: worker, topics and command line."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaProducer
from pydantic import SecretStr
from sqlalchemy import Engine

from crosswind.errors import BrokerError, SettingsError
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.dead_store import read_letters
from crosswind.stream.adapters.kafka.security import client_options, faust_credentials
from crosswind.stream.adapters.kafka.topics import ensure_topics
from tests.kafka_server import KafkaServer
from tests.processes import count, start_worker, wait_for

USER, PASSWORD = "crosswind", "tests-only"
GOOD = {"source": "wire", "title": "bank falls", "published_at": "2026-03-02T00:00:00Z", "id": "1"}


def _make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for `localhost`, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no certificate without openssl ({type(error).__name__})")
    return certificate, key


@pytest.fixture
def secured(kafka_jars: Path, tmp_path: Path) -> Iterator[Settings]:
    """Settings for a Kafka that wants TLS and a password."""
    certificate, key = _make_certificate(tmp_path)
    keystore = tmp_path / "keystore.pem"
    keystore.write_text(key.read_text() + certificate.read_text())
    jaas = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    server = KafkaServer(tmp_path / "kafka", secure={
        "ssl.keystore.type": "PEM", "ssl.keystore.location": str(keystore), "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": jaas,
    })  # fmt: skip
    server.start()
    yield Settings(kafka=server.secure_address, kafka_tls=True, kafka_ca=certificate, kafka_sasl="PLAIN",
                   kafka_user=USER, kafka_password=SecretStr(PASSWORD))  # fmt: skip
    server.stop()


def test_a_worker_works_over_tls_with_a_log_in(
    secured: Settings, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    address = str(secured.kafka)
    ensure_topics(secured, address)
    producer = KafkaProducer(bootstrap_servers=address, acks="all", **client_options(secured))
    for value in (json.dumps(GOOD).encode(), b"{"):
        producer.send("news.raw", value=value).get(30)
    producer.close()
    worker = start_worker(
        address, database_url, tiny_bundle, tmp_path, kafka_tls="true", kafka_ca=str(secured.kafka_ca),
        kafka_sasl="PLAIN", kafka_user=USER, kafka_password=PASSWORD,
    )  # fmt: skip
    try:
        wait_for(lambda: count(engine, "article") == 1, 60, "the article is stored")
        wait_for(lambda: len(read_letters(secured, address)) == 1, 30, "the poison is a dead letter")
    finally:
        worker.terminate()
        assert worker.wait(10) == 0
    assert PASSWORD not in (tmp_path / "worker.log").read_text("utf-8")
    with pytest.raises(BrokerError):  # a certificate that nobody vouches for
        ensure_topics(secured.model_copy(update={"kafka_ca": None}), address)


def test_without_tls_and_log_in_nothing_is_set() -> None:
    assert client_options(Settings()) == {}
    assert faust_credentials(Settings()) is None


def test_a_log_in_without_a_password_is_named() -> None:
    with pytest.raises(SettingsError, match="CROSSWIND_KAFKA_PASSWORD"):
        client_options(Settings(kafka_sasl="PLAIN", kafka_user="me"))


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CROSSWIND_KAFKA_CA"):
        client_options(Settings(kafka_tls=True, kafka_ca=tmp_path / "none.pem"))
