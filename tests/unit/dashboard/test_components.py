from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dash import html

from crosswind.dashboard.components import (
    _STATES,
    alert_list,
    article_table,
    freshness,
    incident_card,
    key_figures,
    safe_href,
    scope_of,
)
from crosswind.dashboard.inbox import actions
from crosswind.dashboard.queries import MAX_INCIDENTS, Article, ArticlePage, Incident, Status
from crosswind.dashboard.view import Pick, View
from crosswind.stream.domain.incident import State

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script> \u202e<img src=x onerror=alert(2)>"


def article(**changes: Any) -> Article:
    values: dict[str, Any] = {
        "article_id": "a", "published_at": AT, "source": "wire", "title": "Bank fails", "url": None, "lang": "en",
        "topic": "credit", "sentiment": "negative", "negative_ppm": 900_000, "neutral_ppm": 50_000,
        "positive_ppm": 50_000, "unsure": False, "entities": [], "model": "m", **changes,
    }  # fmt: skip
    return Article(**values)


def incident(**changes: Any) -> Incident:
    values: dict[str, Any] = {
        "incident_id": "i", "rule": "surge", "rule_version": "1", "topic": "credit", "lang": "*", "entity": "*",
        "state": "firing", "severity": "critical", "started_at": AT, "fired_at": AT, "resolved_at": None,
        "observed": 60, "expected": 4.2, "p_value": 1e-9, "negative_share": 0.8, "sources": 5, "headlines": 50,
        "languages": ["en"], "evidence": [HOSTILE], "evidence_ids": ["a"], "model": "m", **changes,
    }  # fmt: skip
    return Incident(**values)


def parts(component: Any) -> Iterator[Any]:
    yield component
    children = getattr(component, "children", None)
    for child in children if isinstance(children, list | tuple) else [children]:
        if child is not None:
            yield from parts(child)


def texts(component: Any) -> str:
    return " ".join(part for part in parts(component) if isinstance(part, str))


@pytest.mark.parametrize("url", ["https://news.example/a?b=1", "http://news.example"])
def test_web_links_are_links(url: str) -> None:
    assert safe_href(url) == url


@pytest.mark.parametrize(
    "url",
    [None, "", "javascript:alert(1)", " javascript:alert(1)", "JAVASCRIPT:alert(1)", "data:text/html,x",
     "//evil.example", "https://", "https:\\evil", "http://a\nb", "http://[broken",
     "file:///etc/passwd", "java\tscript:alert(1)"],
)  # fmt: skip
def test_every_other_address_is_no_link(url: str | None) -> None:
    assert safe_href(url) is None


def test_a_link_gives_nothing_away() -> None:
    table = article_table(ArticlePage([article(url="https://news.example/1")], None), View(), "/")
    (link,) = (part for part in parts(table) if isinstance(part, html.A))
    assert (link.rel, link.target) == ("noopener noreferrer", "_blank")


def test_a_hostile_title_is_one_text_in_its_own_direction() -> None:
    table = article_table(ArticlePage([article(title=HOSTILE)], None), View(), "/")
    (cell,) = (part for part in parts(table) if getattr(part, "dir", None) == "auto")
    assert cell.children == HOSTILE
    assert isinstance(cell, html.Bdi)


def test_evidence_is_text() -> None:
    assert HOSTILE in texts(incident_card(incident(), View()))


def test_a_sentiment_is_told_without_its_colour() -> None:
    assert "▼ negative" in texts(article_table(ArticlePage([article()], None), View(), "/"))


def test_no_article_is_said_in_words() -> None:
    assert "No article" in texts(article_table(ArticlePage([], None), View(), "/"))


def test_an_older_page_keeps_the_filters() -> None:
    table = article_table(ArticlePage([article()], "cursor"), View(langs=("en",)), "/")
    hrefs = [part.href for part in parts(table) if getattr(part, "className", "") == "button"]
    assert hrefs == ["/?langs=en&before=cursor"]


def test_an_incident_names_its_scope() -> None:
    assert scope_of(incident(entity="Northgate", lang="ja")) == "credit · Northgate · ja"
    assert scope_of(incident(topic="*")) == "all topics · all languages"


def test_the_articles_of_an_entitys_incident_are_on_its_own_page() -> None:
    card = incident_card(incident(topic="*", entity="Acme & Co"), View(range="6h"))
    hrefs = [str(part.href) for part in parts(card) if getattr(part, "href", None)]
    assert [href.startswith("/series?range=6h&entity=Acme+%26+Co&pick=%2A,2026") for href in hrefs] == [True]


def link(given: Incident, view: View, until: datetime | None = None) -> View:
    """Where an alert's card says that its articles are."""
    (href,) = (str(part.href) for part in parts(incident_card(given, view, until=until)) if getattr(part, "href", None))
    return View.from_query(href.partition("?")[2])


def test_the_articles_of_an_alert_begin_with_the_window_that_was_counted() -> None:
    over = link(incident(window_minutes=20, resolved_at=AT + timedelta(hours=2)), View())
    assert over.pick == Pick("credit", AT - timedelta(minutes=19), AT + timedelta(hours=2, minutes=1))


@pytest.mark.parametrize(("until", "end"), [(None, 60), (95, 120), (120, 180)])
def test_the_articles_of_an_open_alert_end_after_what_was_evaluated(until: int | None, end: int) -> None:
    found = link(incident(), View(), AT + timedelta(minutes=until) if until else None)
    assert found.pick
    assert found.pick.end == AT + timedelta(minutes=end)


def test_no_filter_hides_articles_of_an_alert() -> None:
    given = View(topics=("macro",), langs=("ja",), sentiment="positive", novel=True, range="6h", ui="zh")
    one, every, all_news = (link(incident(**changes), given) for changes in ({"lang": "de"}, {}, {"topic": "*"}))
    assert (one.langs, every.langs) == (("de",), ())
    assert (one.sentiment, one.novel, one.range, one.ui) == ("", False, "6h", "zh")
    assert (one.topics, all_news.topics) == (("macro",), ())
    assert link(incident(), View(sentiment="negative")).sentiment == "negative"


@pytest.mark.parametrize(("state", "said"), [("no_data", "⚠ no data"), ("lapsed", "✓ lapsed, never fired")])
def test_every_state_has_a_name(state: str, said: str) -> None:
    assert said in texts(incident_card(incident(state=state), View()))
    assert set(_STATES) == {str(one) for one in State}


def test_an_alert_is_open_until_it_is_over() -> None:
    given = [incident(), incident(state="no_data"), incident(state="pending"), incident(resolved_at=AT)]
    assert "2 open now" in texts(html.Div(key_figures(0, 0, given, [], "")))


@pytest.mark.parametrize(("useful", "said"), [(True, "✓ Useful"), (False, "✓ Not useful"), (None, "")])
def test_what_the_reader_said_of_an_alert_is_marked(useful: bool | None, said: str) -> None:
    labels = [part.children for part in parts(actions(incident(), useful)) if isinstance(part, html.Button)]
    assert [label for label in labels if label.startswith("✓")] == [said] * (useful is not None)


def test_freshness_tells_live_from_quiet() -> None:
    status = Status("live", AT, AT, AT, AT, 3.0, "m")
    assert "live" in texts(freshness(status)[0])
    assert "quiet for 2 h" in texts(freshness(Status("live", AT, AT, AT, None, 7300.0, "m"))[0])
    assert "waiting" in texts(freshness(Status("live", None, None, None, None, None, None))[0])


@pytest.mark.parametrize(("count", "full"), [(MAX_INCIDENTS - 1, False), (MAX_INCIDENTS, True)])
def test_it_is_said_that_there_may_be_more_alerts_than_are_shown(count: int, full: bool) -> None:
    many = [incident()] * count
    assert ("there may be older ones" in texts(alert_list(many, View()))) is full
    assert (f"{count}+" in texts(html.Div(key_figures(0, 0, many, [], "")))) is full
