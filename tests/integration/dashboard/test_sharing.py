"""What many look at is read once, and who has it already costs nothing but a look at the version."""

import asyncio
import gzip
import json
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Engine, event

from crosswind.dashboard import callbacks
from crosswind.dashboard.app import create_app
from crosswind.dashboard.live import Live, OverviewShown
from crosswind.dashboard.queries import Reader
from crosswind.dashboard.view import View
from crosswind.models.taxonomy import TOPICS
from crosswind.settings import Settings
from tests.builders import scored_article
from tests.newsroom import fill, store

PATHS = ["/api/v1/trends?range=48h", "/api/v1/trends?range=48h&topic=credit", "/api/v1/articles?limit=5",
         "/api/v1/incidents"]  # fmt: skip


@pytest.fixture
def asked(engine: Engine) -> Iterator[list[str]]:
    """The statements that read articles, buckets or incidents for their content."""
    found: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "silence" not in statement:  # the version looks at that
            found.append(statement)

    fill(engine, 300)
    event.listen(engine, "before_cursor_execute", note)
    yield found
    event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def app(engine: Engine, database_url: str) -> FastAPI:
    return create_app(Settings(database_url=SecretStr(database_url)), engine)


def ask(app: FastAPI, paths: list[str], **headers: str) -> list[httpx.Response]:
    """The answers to requests that are made at once."""

    async def asking() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
            return await asyncio.gather(*(client.get(path) for path in paths))

    return asyncio.run(asyncio.wait_for(asking(), 60))


@pytest.mark.parametrize("path", PATHS)
def test_two_hundred_viewers_cost_what_one_does(engine: Engine, app: FastAPI, asked: list[str], path: str) -> None:
    ask(create_app(Settings(), engine), [path])
    one, asked[:] = len(asked), []
    answers = ask(app, [path] * 200)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(asked) == one >= 1


@pytest.mark.parametrize("path", PATHS)
def test_who_has_the_answer_is_told_so_without_a_query(app: FastAPI, asked: list[str], path: str) -> None:
    tag = ask(app, [path])[0].headers["etag"]
    asked.clear()
    (again,) = ask(app, [path], **{"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert asked == []


def test_news_are_in_the_next_answer(engine: Engine, app: FastAPI, asked: list[str]) -> None:
    (before,) = ask(app, PATHS[:1])
    store(engine, [scored_article(90_001, minutes=48 * 60 - 1)])
    (after,) = ask(app, PATHS[:1], **{"If-None-Match": before.headers["etag"]})
    counted = [sum(sum(trend["articles"]) for trend in answer.json()["trends"]) for answer in (before, after)]
    assert after.status_code == 200
    assert counted[1] == counted[0] + 1
    assert asked


@pytest.mark.usefixtures("asked")
def test_compressed_answers_are_the_same_and_have_a_tag_of_their_own(app: FastAPI) -> None:
    plain, zipped = (ask(app, PATHS[:1], **{"Accept-Encoding": coding})[0] for coding in ("identity", "gzip"))
    assert (plain.headers.get("content-encoding"), zipped.headers["content-encoding"]) == (None, "gzip")
    assert plain.content == zipped.content  # httpx has unpacked it
    assert len(gzip.compress(plain.content)) < len(plain.content) / 3
    assert plain.headers["etag"] != zipped.headers["etag"]
    assert all("Accept-Encoding" in answer.headers["vary"] for answer in (plain, zipped))


def test_how_long_it_has_been_quiet_goes_on_while_nothing_changes(engine: Engine, asked: list[str]) -> None:
    async def looking() -> list[float]:
        live = Live(Reader(engine, "live"))
        found = [(await live.status()).quiet_seconds or 0.0 for _ in range(3)]
        return found

    found = asyncio.run(looking())
    assert found == sorted(set(found))
    assert len([statement for statement in asked if "clock_timestamp" in statement]) == 1


async def _shown(live: Live, view: View) -> OverviewShown:
    shown = await live.overview(view)
    assert shown is not None
    return shown


@pytest.mark.usefixtures("asked")
def test_a_tick_sends_only_the_charts_that_changed(engine: Engine) -> None:
    async def looking() -> None:
        live = Live(Reader(engine, "live"))
        first = await _shown(live, View())
        tags, every = callbacks._changed(first, {}, {"#figures": "2 articles"})
        assert every == {*TOPICS, callbacks.HEAT, "#figures"}
        assert callbacks._changed(await _shown(live, View()), tags, {"#figures": "2 articles"}) == (tags, set())
        store(engine, [scored_article(90_001, minutes=48 * 60 - 31, topic="macro")])
        later, changed = callbacks._changed(await _shown(live, View()), tags, {"#figures": "3 articles"})
        assert changed == {"macro", callbacks.HEAT, "#figures"}
        assert json.loads(first.charts["macro"].text)["data"]
        assert later["credit"] == tags["credit"]

    asyncio.run(asyncio.wait_for(looking(), 60))
