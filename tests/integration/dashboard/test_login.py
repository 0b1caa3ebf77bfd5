import re
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from crosswind.dashboard.users_cli import app
from crosswind.errors import DataError
from crosswind.stream.adapters.postgres.accounts import Accounts, Role
from tests.newsroom import fill
from tests.served import served

PASSWORD = "correct horse battery"


@pytest.fixture
def accounts(engine: Engine) -> Accounts:
    found = Accounts(engine)
    for role in Role:
        found.add(role.name.lower(), PASSWORD, role)
    fill(engine, 100)
    return found


@pytest.fixture
def client(accounts: Accounts, database_url: str) -> Iterator[httpx.Client]:
    with served(database_url, auth="local") as address, httpx.Client(base_url=address, timeout=20) as connected:
        connected.headers["Origin"] = address
        yield connected


def log_in(client: httpx.Client, name: str, password: str = PASSWORD) -> httpx.Response:
    return client.post("/login", data={"name": name, "password": password, "next": "/alerts"})


def test_nobody_reads_without_a_login(client: httpx.Client) -> None:
    page = client.get("/series?topic=credit")
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=%2Fseries%3Ftopic%3Dcredit")
    for path in ("/api/v1/articles", "/openapi.json", "/export/articles.csv", "/_dash-layout", "/api/v1/live"):
        assert client.get(path).status_code in (303, 401), path
    assert client.get("/health").status_code == 200


def test_who_logs_in_goes_where_they_wanted(client: httpx.Client) -> None:
    answer = log_in(client, "viewer")
    assert (answer.status_code, answer.headers["location"]) == (303, "/alerts")
    assert re.search("httponly.*samesite=lax", answer.headers["set-cookie"], re.IGNORECASE)
    assert client.get("/api/v1/me").json() == {"name": "viewer", "role": "viewer", "acts": False, "leaves": True}
    client.post("/logout")
    assert client.get("/api/v1/me").status_code == 401


def test_a_login_that_was_ended_elsewhere_is_over(client: httpx.Client, accounts: Accounts) -> None:
    log_in(client, "analyst")
    accounts.add("analyst", PASSWORD + "!", Role.VIEWER)
    assert client.get("/api/v1/me").status_code == 401


def test_too_many_wrong_passwords_must_wait(client: httpx.Client) -> None:
    found = [log_in(client, "viewer", "wrong").status_code for _ in range(6)]
    assert found == [401] * 5 + [429]
    assert log_in(client, "viewer").status_code == 429
    assert log_in(client, "analyst").status_code == 303


def test_a_viewer_looks_and_an_analyst_acts_and_an_admin_sees_who_did(client: httpx.Client, engine: Engine) -> None:
    path, verdict = "/api/v1/incidents/i1/verdict", {"useful": False}
    log_in(client, "viewer")
    assert client.post(path, json=verdict).status_code == 403
    log_in(client, "analyst")
    assert client.post(path, json=verdict).status_code == 200
    assert client.post("/api/v1/incidents/i2/acknowledge").json() == {"acknowledged_by": "analyst"}
    assert client.get("/api/v1/audit").status_code == 403
    with engine.connect() as connection:
        assert connection.execute(text("SELECT given_by, useful FROM verdict")).all() == [("analyst", False)]
    log_in(client, "admin")
    done = [(entry["actor"], entry["action"], entry["subject"]) for entry in client.get("/api/v1/audit").json()]
    assert done[1:3] == [("analyst", "acknowledge", "i2"), ("analyst", "judge", "i1")]


def test_a_silence_is_made_and_ended(client: httpx.Client) -> None:
    log_in(client, "analyst")
    made = client.post("/api/v1/silences", json={"matchers": ["topic=credit"], "hours": 2}).json()
    assert [silence["silence_id"] for silence in client.get("/api/v1/silences").json()] == [made["silence_id"]]
    assert client.delete(f"/api/v1/silences/{made['silence_id']}").status_code == 200
    assert client.get("/api/v1/silences").json() == []
    assert client.post("/api/v1/silences", json={"matchers": ["nonsense"], "hours": 2}).status_code == 400


def test_a_form_of_our_own_pages_says_null_and_is_heard(client: httpx.Client) -> None:
    log_in(client, "viewer")
    form = {"Origin": "null", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/logout", headers=form).headers["location"] == "/login"


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"},
                                     {"Origin": "null"}, {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
                                     {"Origin": "null", "Sec-Fetch-Site": "none"}])  # fmt: skip
def test_what_another_site_sends_is_refused(client: httpx.Client, headers: dict[str, str]) -> None:
    log_in(client, "analyst")
    assert client.post("/api/v1/incidents/i2/acknowledge", headers=headers).status_code == 403
    del client.headers["Origin"]
    assert client.post("/api/v1/incidents/i2/acknowledge").status_code == 403


def test_only_a_hash_is_kept(accounts: Accounts, engine: Engine) -> None:
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT password FROM account")).scalars().all()
    assert len(set(kept)) == 3
    assert all(one.startswith("$argon2id$") for one in kept)
    assert PASSWORD not in "".join(kept)


def test_a_short_password_is_refused(accounts: Accounts) -> None:
    with pytest.raises(DataError, match="12 at least"):
        accounts.add("new", "short", Role.VIEWER)


def test_accounts_are_kept_by_the_command_line(database_url: str) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["users", *arguments, "--database-url", database_url])
        assert result.exit_code == 0, result.output
        return result.output

    assert re.search("ada is analyst; password: .{20}", run("add", "ada", "--role", "analyst"))
    assert run("list").split() == ["analyst", "ada"]
    run("remove", "ada")
    assert run("list") == ""
    assert "remove account" in run("audit")
