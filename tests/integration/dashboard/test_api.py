import json
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import Engine

from tests.builders import scored_article
from tests.newsroom import add_incident, fill, store
from tests.served import served


@pytest.fixture
def client(database_url: str) -> Iterator[httpx.Client]:
    with served(database_url) as address, httpx.Client(base_url=address, timeout=10) as connected:
        yield connected


@pytest.fixture
def filled(engine: Engine) -> None:
    fill(engine, 300)


def test_an_empty_database_answers(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"ok": True}
    assert client.get("/api/v1/status").json()["now"] is None
    assert client.get("/api/v1/trends").json()["trends"] == []
    assert client.get("/api/v1/articles").json() == {"articles": [], "next": None}
    assert client.get("/api/v1/incidents").json() == {"incidents": [], "next": None}


@pytest.mark.usefixtures("filled")
def test_trends_are_columns_of_one_length(client: httpx.Client) -> None:
    body = client.get("/api/v1/trends", params={"range": "all", "topic": ["credit", "macro"]}).json()
    assert [trend["topic"] for trend in body["trends"]] == ["credit", "macro"]
    assert {len(trend["articles"]) for trend in body["trends"]} == {len(body["times"])}


@pytest.mark.usefixtures("filled")
def test_articles_are_paged_by_cursor(client: httpx.Client) -> None:
    first = client.get("/api/v1/articles", params={"limit": 3}).json()
    second = client.get("/api/v1/articles", params={"limit": 3, "before": first["next"]}).json()
    assert len(first["articles"]) == len(second["articles"]) == 3
    assert first["articles"][-1]["published_at"] >= second["articles"][0]["published_at"]


@pytest.mark.usefixtures("filled")
def test_incidents_are_listed_newest_first(client: httpx.Client) -> None:
    assert [incident["incident_id"] for incident in client.get("/api/v1/incidents").json()["incidents"]] == ["i2", "i1"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/nothing", 404),
        ("/api/nothing", 404),
        ("/api/v1/articles?before=zzz", 400),
        ("/api/v1/articles?limit=0", 422),
        ("/api/v1/articles?start=9999-12-31T23:59:59Z", 422),
        ("/api/v1/articles?lang=%00", 422),
        ("/api/v1/trends?range=2h", 422),
        ("/api/v1/alerts/stream?after=-1", 422),
    ],
)
def test_errors_are_problems(client: httpx.Client, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["detail"]


def test_nothing_can_be_written(client: httpx.Client) -> None:
    assert client.post("/api/v1/incidents").status_code in (404, 405)


def test_the_api_is_described(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/api/v1/status", "/api/v1/trends", "/api/v1/articles", "/api/v1/incidents"} <= set(paths)


def test_a_foreign_host_is_refused(client: httpx.Client) -> None:
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("path", ["/series?topic=credit", "/"])
def test_the_first_page_has_its_style_sheet_whichever_it_is(client: httpx.Client, path: str) -> None:
    page = client.get(path).text
    assert "crosswind.css" in page
    assert "live.js" in page


def test_the_page_names_no_other_host(client: httpx.Client) -> None:
    page = client.get("/")
    assert "://" not in page.text.replace("http://www.w3.org", "")
    assert "script-src 'self' 'sha256-" in page.headers["content-security-policy"]
    assert "unsafe-inline" not in page.headers["content-security-policy"].split("style-src")[0]


def _alerts(client: httpx.Client, count: int, **given: object) -> list[tuple[int, str]]:
    """The first alerts of the stream: their ids and the incidents that they are about."""
    found: list[tuple[int, str]] = []
    with client.stream("GET", "/api/v1/alerts/stream", **given) as answer:  # type: ignore[arg-type]
        assert answer.headers["content-type"].startswith("text/event-stream")
        seq = 0
        for line in answer.iter_lines():
            seq = int(line[4:]) if line.startswith("id: ") else seq
            if line.startswith("data: "):
                found.append((seq, json.loads(line[6:])["incident_id"]))
            if len(found) == count:
                return found
    return found


def test_the_stream_of_alerts_resumes_after_the_last_one_seen(client: httpx.Client, engine: Engine) -> None:
    for seq in (1, 2, 3):
        add_incident(engine, incident_id=f"i{seq}", seq=seq)
    assert _alerts(client, 3, params={"after": 0}) == [(1, "i1"), (2, "i2"), (3, "i3")]
    assert _alerts(client, 2, headers={"Last-Event-ID": "1"}) == [(2, "i2"), (3, "i3")]


def test_a_new_alert_reaches_an_open_stream(client: httpx.Client, engine: Engine) -> None:
    add_incident(engine, seq=1)
    with client.stream("GET", "/api/v1/alerts/stream") as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": connected"
        store(engine, [scored_article(1)])
        add_incident(engine, incident_id="i2", seq=2)
        assert next(line for line in lines if line.startswith("id: ")) == "id: 2"


@pytest.mark.parametrize("given", ["x", "-1", "٣", str(2**63)])
def test_a_wrong_last_event_id_is_refused(client: httpx.Client, given: str) -> None:
    answer = client.get("/api/v1/alerts/stream", headers={"Last-Event-ID": given.encode()})  # type: ignore[dict-item]
    assert answer.status_code in (400, 422)


@pytest.mark.usefixtures("filled")
def test_an_answer_that_is_known_already_is_not_sent_again(client: httpx.Client, engine: Engine) -> None:
    first = client.get("/api/v1/articles")
    again = client.get("/api/v1/articles", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    store(engine, [scored_article(90_001, minutes=48 * 60 + 1)])
    changed = client.get("/api/v1/articles", headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]


@pytest.mark.usefixtures("filled")
def test_cells_of_a_file_are_no_formulas(client: httpx.Client, engine: Engine) -> None:
    store(engine, [scored_article(90_001, minutes=48 * 60 + 1, title='=HYPERLINK("http://evil.example")')])
    file = client.get("/export/articles.csv?range=all")
    assert file.headers["content-disposition"] == 'attachment; filename="crosswind-articles.csv"'
    assert "'=HYPERLINK" in file.text
    assert ",=HYPERLINK" not in file.text.replace('"', "")


@pytest.mark.usefixtures("filled")
def test_who_sits_at_the_machine_acts_without_a_login(client: httpx.Client) -> None:
    assert client.get("/api/v1/me").json()["acts"]
    assert client.post("/api/v1/incidents/i2/acknowledge").json() == {"acknowledged_by": "local"}
    assert client.post("/api/v1/incidents/gone/acknowledge").status_code == 400
    assert client.post("/api/v1/incidents/i2/acknowledge", headers={"Origin": "http://evil.example"}).status_code == 403
