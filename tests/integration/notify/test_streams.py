"""Who may read a subscription reads its stream, as server-sent events and through a WebSocket; nobody else does."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from crosswind.dashboard import subscriptions_api
from crosswind.stream.adapters.postgres.accounts import Accounts, Role
from crosswind.stream.adapters.postgres.tokens import SCOPES, Tokens
from crosswind.subscribe_cli import app
from tests.notify_helpers import KEY, alert, fire
from tests.processes import PATIENCE
from tests.served import served

PASSWORD = "correct horse battery"
REFUSED = 4401
DEADLINE = 20.0 * PATIENCE
Headers = dict[str, str]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions_api, "BEAT", 0.05)
    monkeypatch.setenv("CROSSWIND_SEAL_KEY", KEY)


@pytest.fixture
def local(database_url: str, tmp_path: Path) -> Iterator[str]:
    """A dashboard without a login."""
    with served(database_url, data_dir=tmp_path) as address:
        yield address


@pytest.fixture
def shut(engine: Engine, database_url: str, tmp_path: Path) -> Iterator[str]:
    """A dashboard where people must log in."""
    for role in Role:
        Accounts(engine).add(role.name.lower(), PASSWORD, role)
    with served(database_url, auth="local", data_dir=tmp_path) as address:
        yield address


def typed(database_url: str) -> str:
    """A stream made by the command line; its id."""
    words = ["subscribe", "--channel", "stream", "--json", "--database-url", database_url]
    return str(json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)["subscription_id"])


def asked(address: str) -> str:
    """One made by `--address` without a token."""
    words = ["subscribe", "--channel", "stream", "--json", "--address", address]
    return str(json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)["subscription_id"])


def posted(address: str, headers: Headers | None = None) -> str:
    """One made on the page, or with a token; its id."""
    answer = httpx.post(address + "/api/v1/subscriptions", json={"channel": "stream"}, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def logged_in(address: str, name: str) -> Headers:
    form = {"name": name, "password": PASSWORD, "next": "/"}
    answer = httpx.post(address + "/login", data=form, headers={"Origin": address})
    assert answer.status_code == 303
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0], "Origin": address}


def status_of(address: str, ident: str, headers: Headers | None = None) -> int:
    """Status of its event stream. Where there is one, its first alert must be number 1."""
    path, after = f"{address}/api/v1/subscriptions/{ident}/stream", {"Last-Event-ID": "0"}
    with httpx.stream("GET", path, headers={**after, **(headers or {})}, timeout=DEADLINE) as answer:
        if answer.status_code == 200:
            assert next(line for line in answer.iter_lines() if line.startswith("id: ")) == "id: 1"
        return answer.status_code


@contextmanager
def socket(address: str, ident: str, headers: Headers | None = None) -> Iterator[ClientConnection]:
    where = f"ws{address.removeprefix('http')}/api/v1/subscriptions/{ident}/ws?after=0"
    with connect(where, additional_headers=headers, proxy=None) as connected:
        yield connected


def close_of(connected: ClientConnection) -> int | None:
    """The code that it is closed with; beats that come before are passed over. None: it stays open."""
    deadline = time.monotonic() + DEADLINE
    try:
        while time.monotonic() < deadline:
            assert "seq" not in json.loads(connected.recv(DEADLINE))
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None
    return None


def reads(address: str, ident: str, headers: Headers | None = None) -> bool:
    """Whether it is read both ways; the two must agree."""
    by_events = status_of(address, ident, headers)
    with socket(address, ident, headers) as connected:
        if by_events == 200:
            assert json.loads(connected.recv(DEADLINE))["seq"] == 1
            return True
        assert by_events in (401, 404)
        assert close_of(connected) == REFUSED
        return False


@pytest.mark.parametrize("make", [lambda address, url: typed(url), lambda address, url: posted(address),
                                  lambda address, url: asked(address)], ids=["typed", "page", "address"])  # fmt: skip
def test_without_a_login_whoever_is_on_the_machine_reads_every_stream(
    make: Callable[[str, str], str], local: str, database_url: str, engine: Engine
) -> None:
    made = make(local, database_url)
    fire(engine, alert(1))
    assert reads(local, made)
    assert reads(local, made, {"Origin": local, "Sec-Fetch-Site": "same-origin"})


@pytest.mark.parametrize("headers", [
    {"Origin": "https://evil.example"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": "null"},
    {"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "cross-site"},
], ids=str)  # fmt: skip
def test_a_page_of_another_site_opens_no_socket_for_whoever_visits_it(
    headers: Headers, local: str, database_url: str, engine: Engine
) -> None:
    made = typed(database_url)
    fire(engine, alert(1))
    with socket(local, made, headers) as connected:
        assert close_of(connected) == REFUSED
    token = {"Authorization": f"Bearer {Tokens(engine).create('t', SCOPES)}"}
    own = posted(local, token)
    fire(engine, alert(2, "inc2"))
    with socket(local, own, {**headers, **token}) as connected:  # no browser adds a token: its holder does
        assert json.loads(connected.recv(DEADLINE))["seq"] == 2


def test_who_is_logged_in_reads_their_own_and_an_admin_reads_all(shut: str, database_url: str, engine: Engine) -> None:
    people: dict[str, Any] = {role.name.lower(): logged_in(shut, role.name.lower()) for role in Role}
    of_cli, of_analyst = typed(database_url), posted(shut, people["analyst"])
    fire(engine, alert(1))
    assert reads(shut, of_analyst, people["analyst"])
    assert not reads(shut, of_cli, people["analyst"])
    assert not reads(shut, of_analyst, people["viewer"])
    assert reads(shut, of_analyst, people["admin"])
    assert reads(shut, of_cli, people["admin"])
    assert not reads(shut, of_cli)


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Origin": ""},
                                     {"Sec-Fetch-Site": "same-site"}], ids=str)  # fmt: skip
def test_a_login_opens_no_socket_for_a_page_of_another_site(headers: Headers, shut: str, engine: Engine) -> None:
    cookie = logged_in(shut, "analyst")
    made = posted(shut, cookie)
    fire(engine, alert(1))
    given = {name: value for name, value in {**cookie, **headers}.items() if value}
    with socket(shut, made, given) as connected:
        assert close_of(connected) == REFUSED


def test_a_viewer_who_once_subscribed_reads_on_what_is_theirs(shut: str, engine: Engine) -> None:
    made = posted(shut, logged_in(shut, "analyst"))
    Accounts(engine).add("analyst", PASSWORD, Role.VIEWER)
    fire(engine, alert(1))
    assert reads(shut, made, logged_in(shut, "analyst"))


@pytest.mark.parametrize("end", ["DELETE FROM session", "UPDATE account SET role = 'analyst' WHERE name = 'admin'"])
def test_a_stream_ends_when_its_reader_may_read_it_no_longer(
    end: str, shut: str, database_url: str, engine: Engine
) -> None:
    admin, made = logged_in(shut, "admin"), typed(database_url)
    fire(engine, alert(1))
    path = f"{shut}/api/v1/subscriptions/{made}/stream"
    with (
        httpx.stream("GET", path, headers={**admin, "Last-Event-ID": "0"}, timeout=DEADLINE) as events,
        socket(shut, made, admin) as connected,
    ):
        lines = events.iter_lines()
        assert next(line for line in lines if line.startswith("id: ")) == "id: 1"
        assert json.loads(connected.recv(DEADLINE))["seq"] == 1
        with engine.begin() as connection:
            connection.execute(text(end))
        assert close_of(connected) == REFUSED
        deadline = time.monotonic() + DEADLINE
        assert all(time.monotonic() < deadline for _ in lines), "the events go on"


def test_a_token_reads_its_own_streams_with_its_scope_only(shut: str, database_url: str, engine: Engine) -> None:
    tokens = Tokens(engine)
    whole, narrow = ({"Authorization": f"Bearer {tokens.create('t', scopes)}"} for scopes in (SCOPES, SCOPES[:2]))
    own, of_narrow, of_cli = posted(shut, whole), posted(shut, narrow), typed(database_url)
    fire(engine, alert(1))
    assert reads(shut, own, whole)
    assert not reads(shut, of_narrow, narrow)
    assert not reads(shut, of_narrow, whole)
    assert not reads(shut, of_cli, whole)


def test_a_bad_token_is_not_made_good_by_a_login(shut: str, engine: Engine) -> None:
    admin = logged_in(shut, "admin")
    made = posted(shut, admin)
    fire(engine, alert(1))
    assert not reads(shut, made, {**admin, "Authorization": "Bearer cwt_x"})
