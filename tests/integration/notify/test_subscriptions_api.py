"""The API of subscriptions: tokens with scopes and limits, nothing secret shown again, streams that resume."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from starlette.websockets import WebSocketDisconnect

from crosswind.dashboard import subscriptions_api
from crosswind.dashboard.api import add_api
from crosswind.dashboard.pulse import Pulse
from crosswind.dashboard.queries import Reader
from crosswind.dashboard.subscriptions_api import add_subscriptions
from crosswind.settings import load_settings
from crosswind.stream.adapters.postgres.tokens import SCOPES, Tokens
from tests.notify_helpers import KEY, alert, fire, receiver, rows

HOOK = {"channel": "webhook", "target": "https://hooks.example/T0P-SECRET", "topics": ["credit"]}


@pytest.fixture
def client(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(subscriptions_api, "BEAT", 0.05)
    settings = load_settings({"seal_key": KEY, "data_dir": tmp_path, "notify_private": True})
    server, reader = FastAPI(), Reader(engine, "live")
    pulse = Pulse(reader.version)
    add_subscriptions(server, settings, engine, pulse)
    add_api(server, reader, pulse)
    with TestClient(server) as made:
        made.headers["Authorization"] = f"Bearer {Tokens(engine).create('t', SCOPES)}"
        yield made


def make(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/api/v1/subscriptions", json={**HOOK, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_secret_is_shown_once_and_stored_encrypted(client: TestClient, engine: Engine) -> None:
    made = make(client)
    assert made["secret"].startswith("whsec_")
    shown = client.get("/api/v1/subscriptions").text + client.get(f"/api/v1/subscriptions/{made['id']}").text
    stored = str(rows(engine, "SELECT * FROM subscription")) + str(rows(engine, "SELECT * FROM api_token"))
    for text in (shown, stored):
        assert "T0P-SECRET" not in text
        assert made["secret"] not in text
    assert client.headers["Authorization"].split()[1] not in stored


def test_changes_keep_what_is_left_out(client: TestClient) -> None:
    quiet = {"zone": "Asia/Tokyo", "start": "22:00", "end": "07:00"}
    made = make(client, quiet=quiet, cap_per_hour=5)
    path = f"/api/v1/subscriptions/{made['id']}"
    changed = client.patch(path, json={"cap_per_hour": None, "state": "paused", "severity": "critical"}).json()
    assert (changed["cap_per_hour"], changed["state"], changed["topics"]) == (None, "paused", ["credit"])
    assert changed["quiet"]["zone"] == "Asia/Tokyo"
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("fields", [{"target": "ftp://x"}, {"quiet": {"zone": "X", "start": "22:00", "end": "07:00"}},
                                    {"quiet": {"zone": "localtime", "start": "22:00", "end": "07:00"}},
                                    {"name": "a\x00b"}, {"template": "a\x00b"}, {"target": "https://h.example/\x00"},
                                    {"language": "xx"}, {"template": "{{ f() }}"}, {"unknown": 1}])  # fmt: skip
def test_bad_wishes_are_refused_with_a_problem(client: TestClient, fields: dict[str, Any]) -> None:
    answer = client.post("/api/v1/subscriptions", json={**HOOK, **fields})
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


def test_tokens_are_scoped_limited_separate_and_revocable(client: TestClient, engine: Engine) -> None:
    made, tokens = make(client), Tokens(engine)
    reader = {"Authorization": f"Bearer {tokens.create('r', ['subscriptions:read'], per_minute=3)}"}
    assert client.get("/api/v1/subscriptions", headers=reader).json() == []
    assert client.get(f"/api/v1/subscriptions/{made['id']}", headers=reader).status_code == 404
    assert client.post("/api/v1/subscriptions", json=HOOK, headers=reader).status_code == 401
    answers = [client.get("/api/v1/subscriptions", headers=reader).status_code for _ in range(3)]
    assert answers == [200, 429, 429]
    tokens.revoke(tokens.list()[0].token_id)
    assert client.get("/api/v1/subscriptions").status_code == 401
    assert client.get("/api/v1/subscriptions", headers={"Authorization": "Bearer cwt_x"}).status_code == 401


def test_a_token_has_so_many_subscriptions_at_most(client: TestClient, engine: Engine) -> None:
    client.headers["Authorization"] = f"Bearer {Tokens(engine).create('few', SCOPES, max_subscriptions=2)}"
    made = [client.post("/api/v1/subscriptions", json=HOOK).status_code for _ in range(3)]
    assert made == [201, 201, 400]


def test_one_click_ends_it_and_a_look_does_not(client: TestClient) -> None:
    made = make(client)
    path = "/api/v1/unsubscribe/" + made["unsubscribe"].rpartition("/")[2]
    del client.headers["Authorization"]
    assert client.get(path).status_code == 200
    assert client.post(path[:-2]).status_code == 404
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # what a mail program posts: RFC 8058, section 3.2
    assert client.post(path, content="List-Unsubscribe=One-Click", headers=form).status_code == 200


def test_unsubscribed_is_told_nothing_more(client: TestClient, engine: Engine) -> None:
    made = make(client)
    client.post("/api/v1/unsubscribe/" + made["unsubscribe"].rpartition("/")[2])
    fire(engine, alert())
    assert client.get(f"/api/v1/subscriptions/{made['id']}").json()["state"] == "unsubscribed"
    assert rows(engine, "SELECT count(*) FROM outbox") == [(0,)]


def test_a_test_message_is_sent_and_logged(client: TestClient) -> None:
    with receiver() as there:
        made = make(client, target=there.address + "/ok")
        tried = client.post(f"/api/v1/subscriptions/{made['id']}/test").json()
        assert tried["outcome"] == "sent"
        assert there.ids("/ok") == [tried["message_id"]]
    log = client.get(f"/api/v1/subscriptions/{made['id']}/log").json()
    assert [(row["outcome"], row["status"]) for row in log] == [("sent", 200)]


def test_a_socket_resumes_after_the_last_number(client: TestClient, engine: Engine) -> None:
    made = make(client, channel="stream", target="")
    fire(engine, alert(1), alert(2, "inc2"), alert(3, "inc3"))
    with client.websocket_connect(f"/api/v1/subscriptions/{made['id']}/ws?after=1") as socket:
        assert [socket.receive_json()["seq"] for _ in range(2)] == [2, 3]
        assert socket.receive_json() == {"beat": True}


def test_an_event_stream_resumes_and_ends_when_the_token_is_revoked(client: TestClient, engine: Engine) -> None:
    made = make(client, channel="stream", target="")
    fire(engine, alert(1), alert(2, "inc2"))
    tokens = Tokens(engine)
    path = f"/api/v1/subscriptions/{made['id']}/stream"
    # The client reads until the stream ends, so somebody else revokes.
    later = threading.Timer(1.0, lambda: tokens.revoke(tokens.list()[0].token_id))
    later.start()
    found = client.get(path, headers={"Last-Event-ID": "1"}).text
    later.join()
    assert "id: 2\nevent: alert" in found
    assert "id: 1\n" not in found


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/log"),
                                              ("POST", "/test"), ("POST", "/rotate"), ("GET", "/stream")])  # fmt: skip
def test_an_id_with_a_nul_character_is_refused(client: TestClient, method: str, path: str) -> None:
    assert client.request(method, f"/api/v1/subscriptions/a%00b{path}", json={}).status_code == 400


def test_a_stream_after_a_number_that_no_event_can_have_is_refused(client: TestClient) -> None:
    made = make(client, channel="stream", target="")
    path = f"/api/v1/subscriptions/{made['id']}/stream"
    assert client.get(path, headers={"Last-Event-ID": "9" * 19}).status_code == 400
    for ident, after in ((made["id"], "9" * 19), ("a%00b", "1")):
        socket = f"/api/v1/subscriptions/{ident}/ws?after={after}"
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(socket) as connected:
            connected.receive_json()
