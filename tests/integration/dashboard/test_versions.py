"""Edited articles in the list and the API: as they were counted, and as they were known at a moment."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import httpx
import pytest
from sqlalchemy import Engine

from crosswind.dashboard.client import Client
from crosswind.dashboard.queries import Reader, Wanted
from crosswind.dashboard.versions import Version, versions
from crosswind.errors import DataError
from crosswind.stream.domain.article import Origin
from tests.builders import START
from tests.newsroom import archive, plans, store
from tests.served import served
from tests.unit.replay.world import at
from tests.versions import chain, told

HOSTILE = '<script>alert(1)</script>"; DROP TABLE article; --'
INPUTS = [
    told(number, word, minutes + number % 3, 10 * number + place)
    for number in range(40)
    for place, (word, minutes) in enumerate([("calm", 0), ("bad", 20), ("good", 60)][: 1 + number % 3])
]


@pytest.fixture
def reader(engine: Engine) -> Reader:
    store(engine, INPUTS)
    return Reader(engine, "live")


@pytest.fixture
def address(database_url: str, reader: Reader) -> Iterator[str]:
    with served(database_url) as found:
        yield found


def moment(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def listed(reader: Reader, **wanted: object) -> list[tuple[str, int]]:
    """Titles and numbers of versions of all pages."""
    found: list[tuple[str, int]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = reader.articles(Wanted(before=cursor, **wanted), 7)  # type: ignore[arg-type]
        found += [(article.title, article.versions) for article in page.articles]
        cursor = page.next
    return found


def expected(as_of: datetime, word: str = "") -> list[tuple[str, int]]:
    found = []
    for number in reversed(range(40)):
        some = [one for one in INPUTS if int(one.article.article_id, 16) == number]
        known = chain(one for one in some if one.article.first_seen_at <= as_of)
        if known and known[-1].article.title.startswith(word):
            found.append((known[-1].article.title, len(known)))
    return found


def test_the_list_has_what_counts_and_says_how_often_it_was_edited(reader: Reader) -> None:
    assert listed(reader) == [(f"calm news of {n}", 1 + n % 3) for n in reversed(range(40))]


@pytest.mark.parametrize("minutes", [-1, 0, 25, 41, 80, 200])
def test_as_of_a_moment_it_has_what_was_known_then(reader: Reader, minutes: int) -> None:
    assert listed(reader, as_of=moment(minutes)) == expected(moment(minutes))


def test_filters_ask_the_version_of_then(reader: Reader) -> None:
    found = listed(reader, as_of=moment(70), sentiment="negative")
    assert found == expected(moment(70), "bad") != []
    span = {"start": moment(5), "end": moment(15)}
    assert listed(reader, as_of=moment(500), **span) == expected(moment(500))[25:35]


def test_whatever_comes_after_a_moment_changes_no_byte_of_an_answer_as_of_it(engine: Engine, address: str) -> None:
    then = moment(45).isoformat()
    paths = ["articles?limit=200", "articles?sentiment=negative", f"articles/{INPUTS[3].article.article_id}/versions"]

    def answers() -> list[bytes]:
        with httpx.Client(base_url=f"{address}/api/v1/", timeout=20) as client:
            return [client.get(path, params={**httpx.QueryParams(path.partition("?")[2]), "as_of": then}).content
                    for path in paths]  # fmt: skip

    before = answers()
    assert all(len(answer) > 200 for answer in before)
    later = [at(one, title=f"poison {n}", body="poison", first_seen_at=moment(46), entities=("Poison",),
                origin=Origin("news.raw", 7, n)) for n, one in enumerate(INPUTS)]  # fmt: skip
    store(engine, [*later, *(told(number, "bad", 90, 5000 + number) for number in range(40, 60)), *INPUTS])
    assert answers() == before


def test_the_versions_of_an_article_are_listed(reader: Reader) -> None:
    found = versions(reader, INPUTS[3].article.article_id)
    assert [(one.version, one.title, one.first_seen_at) for one in found] == [
        (number, one.article.title, one.article.first_seen_at) for number, one in enumerate(INPUTS[3:6], 1)
    ]
    assert [one.sentiment for one in found] == ["neutral", "negative", "positive"]
    (only,) = versions(reader, INPUTS[0].article.article_id)
    assert (only.version, only.title) == (1, "calm news of 0")


def test_versions_are_told_by_the_api(engine: Engine, address: str) -> None:
    ident = INPUTS[3].article.article_id
    hostile = at(told(2, "bad", 99, 7777), title=HOSTILE, body=HOSTILE)
    store(engine, [hostile])
    with Client(address) as client:
        found = client.versions(ident)
        assert [type(one) for one in found] == [Version] * 4
        assert (found[3].title, found[3].body) == (HOSTILE, HOSTILE)
        assert [one.version for one in client.versions(ident, moment(41))] == [1, 2]
        with pytest.raises(DataError, match="no such article"):
            client.versions(ident, moment(-60))
        with pytest.raises(DataError, match="no such article"):
            client.versions("gone")


@pytest.mark.parametrize("path", ["articles?novel=true&as_of=2026-03-02T00:00:00Z", "articles?as_of=yesterday",
                                  "articles?as_of=9999-12-31T23:59:59Z", "articles/%00/versions"])  # fmt: skip
def test_what_cannot_be_asked_is_refused(address: str, path: str) -> None:
    answer = httpx.get(f"{address}/api/v1/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


def test_no_list_as_of_a_moment_reads_all_articles(engine: Engine) -> None:
    archive(engine, 40_000, days=60)
    store(engine, INPUTS)
    reader = Reader(engine, "live")
    found = plans(engine, lambda: reader.articles(Wanted(as_of=START + timedelta(days=60))))
    assert len(found) == 1
    assert "ix_article_run_published_at_article_id" in found[0]
    assert not re.search(r"Seq Scan on article\b|-> +Sort\b", found[0]), found[0]
