"""`crosswind dlq` on a real broker, from the message that a worker refused to the article that it becomes."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from sqlalchemy import Engine
from typer.testing import CliRunner

from crosswind.dlq import app
from crosswind.errors import BrokerError, ContractError, CrosswindError, Reason
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka import dead_store
from crosswind.stream.adapters.kafka.dead_letters import headers
from crosswind.stream.adapters.kafka.embedded import EmbeddedBroker
from crosswind.stream.adapters.kafka.topics import ensure_topics
from crosswind.stream.domain.article import Origin
from tests.oracle import records, send
from tests.processes import count, start_worker, wait_for

GOOD = {"source": "wire", "title": "bank falls", "published_at": "2026-03-02T00:00:00Z", "id": "1"}
HOSTILE = b'{"title": "\x1b[2Jgone"}'


@pytest.fixture
def topics(broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The broker with its topics; the commands find it, and run in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSWIND_KAFKA", broker)
    ensure_topics(Settings(), broker)
    return broker


def _letter(broker: str, value: bytes, reason: Reason = Reason.MISSING_FIELD, offset: int = 7) -> None:
    found = headers(Origin("news.raw", 1, offset), ContractError(reason, "no title"), "VALUE_CONVERTER")
    producer = KafkaProducer(bootstrap_servers=broker, acks="all")
    producer.send("news.dead", key=b"k", value=value, headers=list(found.items())).get(30)
    producer.close()


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["dlq", *arguments], catch_exceptions=True)


def _listed(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_run("list", "--json", *arguments).stdout)
    return found


def test_letters_are_listed_by_reason(topics: str) -> None:
    _letter(topics, b"{}")
    _letter(topics, b"{", Reason.BAD_JSON)
    assert [letter["reason"] for letter in _listed("--reason", "bad_json")] == ["bad_json"]
    letters = _listed()
    assert {letter["reason"] for letter in letters} == {"bad_json", "missing_field"}
    assert (letters[0]["topic"], letters[0]["partition"], letters[0]["offset"]) == ("news.raw", 1, 7)
    assert [letter["bytes"] for letter in _listed("--limit", "1")] == [1]


def test_a_letter_is_shown_without_its_control_characters(topics: str) -> None:
    _letter(topics, HOSTILE)
    letter_id = _listed()[0]["id"]
    shown = _run("show", letter_id).stdout
    assert "\x1b" not in shown
    assert "\\u001b[2Jgone" in shown
    assert json.loads(_run("show", letter_id, "--json").stdout)["value"] == HOSTILE.decode()
    assert _run("show", letter_id, "--raw").stdout_bytes == HOSTILE


def test_what_is_still_wrong_is_not_sent(topics: str) -> None:
    _letter(topics, b"{}")
    outcome = _run("replay", "--all", "--json")
    assert outcome.exit_code == 3
    assert next(iter(json.loads(outcome.stdout)["refused"].values())).startswith("missing_field")
    assert records(topics, "news.raw") == []
    assert _run("replay", "--all", "--force").exit_code == 0
    assert [record.value for record in records(topics, "news.raw")] == [b"{}"]


def test_a_replay_is_done_once(topics: str) -> None:
    _letter(topics, json.dumps(GOOD).encode(), Reason.TOO_LARGE)
    assert json.loads(_run("replay", "--reason", "too_large", "--json").stdout)["replayed"]
    again = json.loads(_run("replay", "--all", "--json").stdout)
    assert (again["replayed"], len(again["replayed_before"])) == ([], 1)
    found = records(topics, "news.raw")
    assert [(record.key, json.loads(record.value)) for record in found] == [(b"k", GOOD)]
    assert found[0].headers[0][0] == "crosswind.replay-of"
    assert _listed() == []
    assert [letter["replayed"] for letter in _listed("--all")] == [True]


def test_reading_ends_while_letters_arrive(topics: str) -> None:
    for number in range(3):
        _letter(topics, b"{}", offset=number)
    producer, ended = KafkaProducer(bootstrap_servers=topics), threading.Event()

    def arrive() -> None:  # for much longer than a reading takes; the bound only spares a red run from hanging
        while not ended.is_set() and len(arrived) < 300:
            arrived.append(producer.send("news.dead", key=b"k", value=b"late", partition=0).get(30))
            ended.wait(0.2)

    arrived: list[object] = []
    thread = threading.Thread(target=arrive)
    thread.start()
    try:
        wait_for(lambda: bool(arrived), 30, "letters arrive")
        listed = _listed()
        assert thread.is_alive(), "the list was ready only when no more letters came"
        assert {0, 1, 2} <= {letter["offset"] for letter in listed}
    finally:
        ended.set()
        thread.join()
        producer.close()


@pytest.fixture
def pausing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The process of a broker with three letters, which stands still as soon as it has told where the topic ends."""
    broker = EmbeddedBroker(tmp_path / "broker.log")
    address = broker.start()
    assert broker._process is not None
    pid = broker._process.pid
    try:
        ensure_topics(Settings(), address)
        for number in range(3):
            _letter(address, json.dumps({**GOOD, "id": str(number)}).encode(), offset=number)
        ends = KafkaConsumer.end_offsets

        def told(consumer: KafkaConsumer, parts: Any) -> Any:
            found = ends(consumer, parts)
            os.kill(pid, signal.SIGSTOP)
            return found

        monkeypatch.setattr(KafkaConsumer, "end_offsets", told)
        monkeypatch.setenv("CROSSWIND_KAFKA", address)
        monkeypatch.setattr(dead_store, "SILENCE_MS", 200)
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)
        broker.stop()


def test_every_letter_is_read_from_a_broker_that_is_quiet_for_a_while(
    pausing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    polled: list[object] = []
    poll = KafkaConsumer.poll

    def quiet(consumer: KafkaConsumer, **options: Any) -> Any:  # the third silence in a row is the last
        polled.append(found := poll(consumer, **options))
        if len(polled) == 3:
            os.kill(pausing, signal.SIGCONT)
        return found

    monkeypatch.setattr(KafkaConsumer, "poll", quiet)
    assert {letter["offset"] for letter in _listed()} == {0, 1, 2}
    assert polled[:3] == [{}, {}, {}]


@pytest.mark.usefixtures("pausing")
def test_a_broker_that_goes_away_while_letters_are_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_store, "ANSWER_SECONDS", 1.0)
    found = _run("replay", "--all")
    assert isinstance(found.exception, BrokerError)
    assert "not all read" in str(found.exception)


def test_nothing_is_replayed_without_saying_what(topics: str) -> None:
    assert isinstance(_run("replay").exception, CrosswindError)
    assert isinstance(_run("replay", "9:9").exception, CrosswindError)


def test_a_mended_message_becomes_an_article(
    topics: str, database_url: str, engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    send(topics, "news.raw", [json.dumps({**GOOD, "title": None}).encode()])
    worker = start_worker(topics, database_url, tiny_bundle, tmp_path)
    try:
        wait_for(lambda: bool(_listed()), 60, "the message is dead-lettered")
        letter = _listed()[0]
        assert letter["reason"] == "bad_field"
        mended = tmp_path / "mended.json"
        mended.write_text(json.dumps(GOOD), "utf-8")
        assert _run("replay", letter["id"], "--value", str(mended)).exit_code == 0
        wait_for(lambda: count(engine, "article") == 1, 30, "the mended message is an article")
    finally:
        worker.terminate()
        worker.wait(10)


def test_a_missing_topic_is_said(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSWIND_KAFKA", broker)
    monkeypatch.setenv("CROSSWIND_DEAD_TOPIC", "news.elsewhere")
    found = _run("list")
    assert isinstance(found.exception, CrosswindError)
    assert "no topic news.elsewhere" in str(found.exception)
    assert "CROSSWIND_DEAD_TOPIC" in str(found.exception)
