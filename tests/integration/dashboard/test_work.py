"""Rules, backtests, subscriptions, feeds and runs over the real server, through our own client."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from crosswind.dashboard.client import Client
from crosswind.dashboard.running_backtests import Asked, Backtests
from crosswind.dashboard.subscription_models import SubscriptionIn
from crosswind.dashboard.work_models import BacktestIn
from crosswind.errors import DataError
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.accounts import Accounts, Role
from crosswind.stream.adapters.postgres.engine import connect
from crosswind.stream.adapters.postgres.runs import save_run
from crosswind.stream.service.rules import DEFAULT
from tests.builders import scored_article
from tests.newsroom import SURGE, fill, store
from tests.served import served

DEADLINE = 150.0
TRUTH = f"onset,end,topic,name\n{SURGE[0].isoformat()},{SURGE[1].isoformat()},credit,run on a bank"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return Path(shutil.copy(DEFAULT, tmp_path / "rules.yaml"))


@pytest.fixture
def client(database_url: str, engine: Engine, rules: Path, tmp_path: Path) -> Iterator[Client]:
    fill(engine, 300)
    settings = {"rules": rules, "data_dir": tmp_path / "data"}
    with served(database_url, **settings) as address, Client(address, timeout=60) as connected:
        yield connected


def test_rules_are_previewed_then_saved_and_never_over_somebody_elses(client: Client, rules: Path) -> None:
    before = client.rules()
    assert before.editable
    changed = before.text + "\n# ours\n"
    with pytest.raises(DataError, match="not previewed"):
        client.save_rules(changed, before.digest, "")
    looked = client.preview(changed, days=7)
    assert looked.series > 0
    assert (looked.version, looked.before) == (before.version, looked.alarms)
    saved = client.save_rules(changed, before.digest, looked.checked)
    assert rules.read_text("utf-8") == changed
    with pytest.raises(DataError, match="changed meanwhile"):
        client.save_rules(changed, before.digest, looked.checked)
    assert saved.digest == client.rules().digest
    with pytest.raises(DataError, match="not a rule file"):
        client.preview("rules: 7")


def shown(client: Client, ident: str, *inputs: tuple[str, str, str], known: str = "", **state: str) -> str:
    """What the page's callback draws there; `known` is the store of what was sent before, where it has one."""
    given = [{"id": name, "property": what, "value": value} for name, what, value in inputs]
    drawn, store = {"id": ident, "property": "children"}, {"id": known, "property": "data"}
    kept = [{"id": "url", "property": what, "value": value} for what, value in state.items()]
    body = {
        "output": f"..{ident}.children...{known}.data.." if known else f"{ident}.children",
        "outputs": [drawn, store] if known else drawn, "inputs": given, "changedPropIds": ["url.pathname"],
        "state": [*kept, *([{**store, "value": None}] if known else [])],
    }  # fmt: skip
    answer = client._http.post("/_dash-update-component", json=body)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_a_file_of_rules_that_cannot_be_read_is_said_on_their_page(client: Client, rules: Path) -> None:
    rules.write_bytes(rules.read_bytes() + "\n# Schwelle für Europa\n".encode("latin-1"))
    address = ("url", "pathname", "/rules"), ("url", "search", ""), ("pulse", "data", "")
    assert "the rules in rules.yaml cannot be read" in shown(client, "rules", *address, known="rules-known")
    assert "the rules in rules.yaml cannot be read" in shown(client, "rules-editor", address[0], search="")


def test_a_backtest_is_started_watched_and_read(client: Client, engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected onset"):
        client.backtest(BacktestIn(name="wrong", truth="a,b\n1,2"))
    assert client.backtest(BacktestIn(name="first", truth=TRUTH)).state == "running"
    other = Backtests(Settings(data_dir=tmp_path / "data"), engine)  # of another dashboard on this folder
    assert [one.state for one in other.unfinished().values()] == ["running"]
    with pytest.raises(DataError, match="a backtest is running"):
        other.start("second", Asked("sample", [], ""), "", TRUTH)
    deadline = time.monotonic() + DEADLINE
    while (found := client.backtest_of("first")).state == "running":
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    assert (found.state, found.problem) == ("done", "")
    assert (found.rules[0].name, found.rules[0].events) == ("rules.yaml", 1)
    assert [one.id for one in client.backtests()] == ["first"]
    with pytest.raises(DataError, match="already"):
        client.backtest(BacktestIn(name="first", truth=TRUTH))
    report = client._http.get("/api/v1/backtests/first/report")
    assert report.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'")


def test_a_source_that_stops_is_silent(client: Client, engine: Engine) -> None:
    late = [scored_article(70_000 + n, minutes=48 * 60 + n, source="Late Wire") for n in range(60)]
    store(engine, [*late, *(scored_article(80_000 + n, minutes=66 * 60 + n, source="Fresh") for n in range(60))])
    states = {feed.source: feed.state for feed in client.feeds().feeds}
    assert (states["Fresh"], states["Late Wire"]) == ("flowing", "silent")


def test_runs_and_incidents_come_in_pages(client: Client, engine: Engine) -> None:
    for number in range(3):
        save_run(engine, f"r{number}", "done", {}, {"fired": number})
    assert [run.run for run in client.runs()] == ["r2", "r1", "r0"]
    first = client._http.get("/api/v1/runs", params={"limit": 2}).json()
    rest = client._http.get("/api/v1/runs", params={"limit": 2, "before": first["next"]}).json()
    assert [len(first["runs"]), len(rest["runs"]), rest["next"]] == [2, 1, None]
    page = client._http.get("/api/v1/incidents", params={"limit": 1}).json()
    after = client._http.get("/api/v1/incidents", params={"limit": 1, "before": page["next"]}).json()
    assert [page["incidents"][0]["incident_id"], after["incidents"][0]["incident_id"]] == ["i2", "i1"]
    assert client._http.get("/api/v1/incidents", params={"before": "nonsense"}).status_code == 400


def test_who_subscribes_on_the_pages_is_noted(client: Client, engine: Engine) -> None:
    made = client.subscribe(SubscriptionIn(channel="stream", name="desk"))
    assert [one.id for one in client.subscriptions()] == [made.id]
    with engine.connect() as connection:
        assert connection.execute(text("SELECT actor, action FROM audit")).all() == [("local", "post subscription")]
        assert connection.execute(text("SELECT owner FROM subscription")).scalars().all() == ["user:local"]


def test_the_api_is_described_for_people_and_machines(client: Client) -> None:
    document = client._http.get("/openapi.json").json()
    kinds = {"trends", "articles", "incidents", "subscriptions", "rules", "runs", "models", "backtests", "feeds"}
    assert kinds <= {path.split("/")[3] for path in document["paths"]}
    untyped = [
        f"{method} {path}"
        for path, methods in document["paths"].items() for method, operation in methods.items()
        for content in operation["responses"].get("200", {}).get("content", {}).items()
        if content[0] == "application/json" and not content[1]["schema"] and "stream" not in path
    ]  # fmt: skip
    assert untyped == []
    page = client._http.get("/docs").text
    assert "PUT /api/v1/rules" in page
    assert "<script" not in page


def test_the_pages_connections_cannot_write(database_url: str) -> None:
    engine = connect(database_url, read_only=True)
    with engine.connect() as connection, pytest.raises(SQLAlchemyError, match="read-only"):
        connection.execute(text("DELETE FROM article"))
    engine.dispose()


@pytest.fixture
def people(engine: Engine, database_url: str, tmp_path: Path, rules: Path) -> Iterator[httpx.Client]:
    for role in Role:
        Accounts(engine).add(role.name.lower(), "correct horse battery", role)
    with (
        served(database_url, auth="local", rules=rules, data_dir=tmp_path) as address,
        httpx.Client(base_url=address, headers={"Origin": address}, timeout=60) as connected,
    ):
        yield connected


def test_a_viewer_reads_an_analyst_tries_an_admin_saves(people: httpx.Client) -> None:
    hook = {"channel": "stream", "name": "mine"}
    assert people.get("/api/v1/subscriptions").status_code == 401
    found = {}
    for name in ("viewer", "analyst", "admin"):
        people.cookies.clear()
        people.post("/login", data={"name": name, "password": "correct horse battery", "next": "/"})
        rules = people.get("/api/v1/rules").json()
        found[name] = (
            people.post("/api/v1/subscriptions", json=hook).status_code,
            people.post("/api/v1/rules/preview", json={"text": rules["text"]}).status_code,
            people.put("/api/v1/rules", json={"text": "x", "over": "", "checked": ""}).status_code,
            len(people.get("/api/v1/subscriptions").json()),
        )
    assert found == {"viewer": (401, 403, 403, 0), "analyst": (201, 200, 403, 1), "admin": (201, 200, 400, 2)}
