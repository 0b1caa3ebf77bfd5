import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import Connection, Engine, text
from typer.testing import CliRunner

from crosswind.dashboard.login import FAILURES, Throttle
from crosswind.dashboard.subscriptions_page import own
from crosswind.dashboard.users_cli import app
from crosswind.errors import DataError
from crosswind.stream.adapters.postgres import accounts as accounts_module
from crosswind.stream.adapters.postgres.accounts import Accounts, Person, Role
from crosswind.stream.adapters.postgres.subscriptions import Subscriptions
from crosswind.stream.notify.domain.subscription import Channel, Draft, Standing
from tests.newsroom import add_incident, fill
from tests.processes import wait_for
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


def test_a_page_of_more_fields_than_any_has_leads_to_the_start_page(client: httpx.Client) -> None:
    much = "/series?" + "&".join(f"a{n}=1" for n in range(51))
    refused = client.get(much, headers={"Accept-Language": "zh"}, follow_redirects=True)
    assert (refused.status_code, 'name="next" value="/?ui=zh"' in refused.text) == (200, True)
    form = {"name": "viewer", "password": PASSWORD, "next": much}
    assert client.post("/login", data=form).headers["location"] == "/"


def test_a_login_that_was_ended_elsewhere_is_over(client: httpx.Client, accounts: Accounts) -> None:
    log_in(client, "analyst")
    accounts.add("analyst", PASSWORD + "!", Role.VIEWER)
    assert client.get("/api/v1/me").status_code == 401


def test_too_many_wrong_passwords_must_wait(client: httpx.Client) -> None:
    found = [log_in(client, "viewer", "wrong").status_code for _ in range(6)]
    assert found == [401] * 5 + [429]
    assert log_in(client, "viewer").status_code == 429
    assert log_in(client, "analyst").status_code == 303


def log_in_from(client: httpx.Client, forwarded: str, name: str, password: str) -> int:
    form = {"name": name, "password": password, "next": "/"}
    return client.post("/login", data=form, headers={"X-Forwarded-For": forwarded}).status_code


def test_who_says_to_come_from_elsewhere_must_wait_all_the_same(client: httpx.Client, accounts: Accounts) -> None:
    found = [log_in_from(client, f"10.0.0.{n}", "viewer", "wrong") for n in range(6)]
    assert found == [401] * 5 + [429]
    assert {entry["address"] for entry in accounts.noted()} == {"127.0.0.1"}


def test_behind_a_trusted_proxy_one_persons_failures_make_nobody_else_wait(
    accounts: Accounts, database_url: str
) -> None:
    with (
        served(database_url, auth="local", trusted_proxies="127.0.0.1") as address,
        httpx.Client(base_url=address, headers={"Origin": address}, timeout=20) as client,
    ):
        # what somebody sends stays to the left of what the proxy saw
        found = [log_in_from(client, f"10.0.0.{n}, 203.0.113.9", f"name{n}", "wrong") for n in range(21)]
        assert found == [401] * 20 + [429]
        assert log_in_from(client, "198.51.100.4", "viewer", PASSWORD) == 303
    assert {entry["address"] for entry in accounts.noted()} == {"203.0.113.9", "198.51.100.4"}


def test_a_burst_of_wrong_passwords_must_wait_too(client: httpx.Client) -> None:
    with ThreadPoolExecutor(9) as pool:
        found = Counter(pool.map(lambda _: log_in(client, "viewer", "wrong").status_code, range(9)))
    assert found == {401: 5, 429: 4}


def test_a_burst_over_many_names_must_wait_too(client: httpx.Client) -> None:
    with ThreadPoolExecutor(24) as pool:
        found = Counter(pool.map(lambda n: log_in(client, f"name{n}", "wrong").status_code, range(24)))
    assert found == {401: 20, 429: 4}


def test_right_passwords_count_for_nothing(client: httpx.Client) -> None:
    assert [log_in(client, "viewer").status_code for _ in range(6)] == [303] * 6
    assert [log_in(client, "viewer", "wrong").status_code for _ in range(6)] == [401] * 5 + [429]


def test_what_is_forgiven_leaves_other_failures() -> None:
    throttle = Throttle(clock=iter(float(second) for second in range(100)).__next__)
    noted = [throttle.failed("ada", "here") for _ in range(FAILURES)]
    assert throttle.wait("ada", "here") > 0
    throttle.forgive("ada", "here", noted[2])
    throttle.forgive("ada", "here", noted[2])
    assert throttle.wait("ada", "here") == 0
    throttle.failed("ada", "here")
    assert throttle.wait("ada", "here") > 0


def test_a_name_with_a_nul_character_is_refused(client: httpx.Client) -> None:
    assert log_in(client, "a\x00b").status_code == 400


@pytest.mark.parametrize("path", ["/api/v1/alerts/stream", "/api/v1/live"])
def test_streams_end_with_the_login(client: httpx.Client, accounts: Accounts, engine: Engine, path: str) -> None:
    log_in(client, "analyst")
    with client.stream("GET", path) as answer:
        lines = answer.iter_lines()
        next(lines)
        accounts.remove("analyst")
        add_incident(engine, incident_id="late", seq=3)
        assert not any(line.startswith("event") for line in lines)


@pytest.mark.parametrize("change", [lambda found: found.add("viewer", PASSWORD + "!", Role.VIEWER),
                                    lambda found: found.remove("viewer")])  # fmt: skip
def test_an_account_that_changes_during_a_login_is_not_logged_in(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch, change: Callable[[Accounts], None]
) -> None:
    fits = accounts_module._fits

    def slow(stored: str, password: str) -> bool:
        well = fits(stored, password)
        change(accounts)
        return well

    monkeypatch.setattr(accounts_module, "_fits", slow)
    assert accounts.log_in("viewer", PASSWORD) is None


def test_a_change_waits_for_a_login_that_is_nearly_done_and_ends_it(
    accounts: Accounts, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing = threading.Thread(target=accounts.add, args=("viewer", PASSWORD + "!", Role.VIEWER))
    begin = accounts_module._session

    def waits() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        with engine.connect() as connection:
            return bool(connection.execute(text(query)).scalar())

    def late(connection: Connection, name: str) -> str:
        changing.start()
        wait_for(waits, 5, "the change waits for the login")
        return begin(connection, name)

    monkeypatch.setattr(accounts_module, "_session", late)
    token = accounts.log_in("viewer", PASSWORD)
    changing.join()
    assert token is not None
    assert accounts.of(token) is None


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


@pytest.mark.parametrize("name", ["بانک ملی\u200cها", "क्\u200dष", "B" * 512])
def test_whatever_name_an_article_may_have_can_be_silenced(client: httpx.Client, name: str) -> None:
    log_in(client, "analyst")
    matchers = [f"entity={name}", "severity!=critical"]
    answer = client.post("/api/v1/silences", json={"matchers": matchers, "hours": 2})
    assert (answer.status_code, answer.json()["matchers"][0]["value"]) == (200, name)
    for other in (name + "\u202e", "A  B", "B" * 513):
        assert client.post("/api/v1/silences", json={"matchers": [f"entity={other}"], "hours": 2}).status_code == 400


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


def test_a_removed_account_leaves_no_subscription_that_is_served_or_inherited(engine: Engine) -> None:
    accounts, stores = Accounts(engine), [Subscriptions(engine, run) for run in ("live", "other")]
    accounts.add("ada", PASSWORD, Role.ANALYST)
    accounts.add("bob", PASSWORD, Role.ANALYST)
    ada, bob = accounts.all()
    for store in stores:
        store.add(own(ada), Draft(Channel.WEBHOOK, "https://hook.example/a", "hers"), lane="l", shown="s", sealed="x")
    ended = stores[0].add(own(ada), Draft(Channel.STREAM, name="ended"), lane="l", shown="s", sealed="x")
    stores[0].stand(ended, Standing.UNSUBSCRIBED)
    stores[0].add(own(bob), Draft(Channel.STREAM, name="his"), lane="l", shown="s", sealed="x")
    assert accounts.remove("ada") == 2
    accounts.add("ada", PASSWORD, Role.ANALYST)
    assert stores[0].list(own(ada)) == []
    found = {(one.owner, one.draft.name): (one.state, one.state_reason) for one in stores[0].list()}
    assert found == {
        ("removed:ada", "hers"): (Standing.DISABLED, "its account was removed"),
        ("removed:ada", "ended"): (Standing.UNSUBSCRIBED, ""),
        ("user:bob", "his"): (Standing.ACTIVE, ""),
    }
    assert accounts.remove("ada") == 0


def test_who_comes_back_from_a_provider_finds_their_subscriptions_disabled(engine: Engine) -> None:
    accounts, store = Accounts(engine), Subscriptions(engine, "live")
    ada, _ = accounts.log_in_as(Person("https://id.example", "42", "ada"), Role.ANALYST)
    store.add(own(ada), Draft(Channel.STREAM, name="hers"), lane="l", shown="s", sealed="x")
    assert accounts.remove(ada.name) == 1
    back, _ = accounts.log_in_as(Person("https://id.example", "42", "ada"), Role.ANALYST)
    assert [one.state for one in store.list(own(back))] == [Standing.DISABLED]


def test_accounts_are_kept_by_the_command_line(database_url: str) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["users", *arguments, "--database-url", database_url])
        assert result.exit_code == 0, result.output
        return result.output

    assert re.search("ada is analyst; password: .{20}", run("add", "ada", "--role", "analyst"))
    assert run("list").split() == ["analyst", "ada"]
    assert run("remove", "ada") == "ada is removed; subscriptions disabled: 0\n"
    assert run("list") == ""
    assert "remove account" in run("audit")
