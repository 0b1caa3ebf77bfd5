"""In a real browser: what the reader does outlives news, and the page says when it hears nothing any more."""

import re
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, Page, Request, expect
from sqlalchemy import Engine, text

from crosswind.stream.adapters.postgres.accounts import Accounts, Role
from tests.builders import scored_article
from tests.integration.alerts.world import END
from tests.integration.stories.world import close, feed, put
from tests.newsroom import fill, store
from tests.served import served
from tests.unit.alerts.feeds import START

Open = Callable[..., Page]
PASSWORD = "correct horse battery"
pytestmark = pytest.mark.timeout(240)
with_news = pytest.mark.usefixtures("filled")


QUIET_MS = 600
"""The server has answered when nothing was asked for so long."""


def settle(page: Page, pulse: str = "") -> str:
    """What the server answers until it is quiet; before that `pulse` (or `beat`) is set, as `live.js` does it."""
    asked, answers = [], []

    def note(request: Request) -> None:
        if "_dash-update-component" in request.url:
            asked.append(request)

    page.on("request", note)
    page.on("response", lambda answer: answers.append(answer) if answer.request in asked else None)
    if pulse:
        page.evaluate(f"window.dash_clientside.set_props('{pulse}', {{data: String(Math.random())}})")
    deadline, before = time.monotonic() + 30, -1
    while (len(asked), len(answers)) != (before, before) or (pulse and not answers):
        assert time.monotonic() < deadline, f"{len(answers)} answers to {len(asked)} questions"
        before = len(asked)
        page.wait_for_timeout(QUIET_MS)
    page.remove_listener("request", note)
    return "".join(answer.text() for answer in answers)


@pytest.fixture
def filled(engine: Engine) -> None:
    fill(engine, 300)


@pytest.fixture
def told(engine: Engine) -> None:
    """A feed with stories behind its alerts."""
    put(engine, feed())
    close(engine, START + timedelta(hours=END))


@pytest.mark.usefixtures("told")
def test_what_was_opened_and_the_focus_outlive_news(open_page: Open, engine: Engine) -> None:
    page = open_page("/alerts?range=all")
    card = page.locator(".incident:has(> div > details)").first
    card.locator("summary").click()
    expect(card.locator(".story").first).to_be_visible()
    button = card.get_by_role("button", name="Silence 2 h")
    button.focus()
    page.evaluate("window.kept = document.querySelector('.incident')")
    settle(page)
    settle(page, "pulse")
    assert page.evaluate("window.kept.isConnected")  # the same news: nothing was drawn anew
    with engine.begin() as connection:
        connection.execute(text("UPDATE incident SET acknowledged_by = 'bob', acknowledged_at = clock_timestamp()"))
    expect(card).to_contain_text("taken by bob")
    assert not page.evaluate("window.kept.isConnected")
    expect(card.locator(".story").first).to_be_visible()
    expect(button).to_be_focused()
    card.locator("summary").click()
    with engine.begin() as connection:
        connection.execute(text("UPDATE incident SET acknowledged_by = 'eve', acknowledged_at = clock_timestamp()"))
    expect(card).to_contain_text("taken by eve")
    expect(card.locator(".story").first).to_be_hidden()


@with_news
@pytest.mark.parametrize("path", ["/", "/series?topic=credit", "/alerts", "/feeds", "/models", "/rules"])
def test_the_same_news_sends_no_list_again(open_page: Open, path: str) -> None:
    page = open_page(path)
    page.locator(".articles tbody tr, .incident, #feeds table, #models .panel, #rules .panel").first.wait_for()
    settle(page)
    settle(page, "pulse")
    sent = settle(page, "pulse")
    assert '"freshness"' in sent
    for name in (
        "articles",
        "alerts",
        "silences",
        "series-alerts",
        "stories",
        "figures",
        "heat",
        "feeds",
        "models",
        "rules",
    ):
        assert f'"{name}":{{"' not in sent.replace(" ", ""), name


@with_news
def test_a_beat_drives_the_header_alone(open_page: Open) -> None:
    page = open_page("/")
    page.locator(".articles tbody tr").first.wait_for()
    settle(page)
    sent = settle(page, "beat")
    assert sent.count('"response"') == 1
    assert '"freshness"' in sent


@with_news
def test_ones_own_verdict_is_there_on_the_next_visit(open_page: Open) -> None:
    page = open_page("/alerts")
    firing = page.locator(".incident.firing")
    firing.get_by_role("button", name="Not useful").click()
    expect(firing.get_by_role("button", name="✓ Not useful")).to_be_visible()
    page.reload()
    expect(firing.get_by_role("button", name="✓ Not useful")).to_be_visible()
    firing.get_by_role("button", name="Useful", exact=True).click()
    expect(firing.get_by_role("button", name="✓ Useful")).to_be_visible()
    expect(firing.get_by_role("button", name="Not useful", exact=True)).to_be_visible()


def test_the_page_says_that_the_server_is_gone_and_so_does_a_button(
    browser: Browser, database_url: str, engine: Engine
) -> None:
    fill(engine, 300)
    page = browser.new_page()
    with served(database_url) as at:
        page.goto(f"{at}/alerts?ui=zh")
        expect(page.locator(".freshness")).to_contain_text("●")
        expect(page.locator("#cut")).to_be_hidden()
        page.locator("button.act").first.wait_for()
    expect(page.locator("#cut")).to_have_text("✕ 与服务器的连接已断开")
    expect(page.locator("#cut")).to_be_visible()
    expect(page.locator("#freshness .badge")).to_be_hidden()
    button = page.locator("button.act").first
    name = button.inner_text()
    button.click()
    expect(button).to_have_text("✕ 服务器没有响应")
    expect(button).to_be_enabled()
    expect(button).to_have_text(name)
    page.close()


@with_news
def test_a_page_comes_back_after_a_refused_stream(browser: Browser, database_url: str, engine: Engine) -> None:
    with served(database_url) as at:
        page = browser.new_page()
        page.route("**/api/v1/live", lambda route: route.fulfill(status=503))
        page.goto(at)
        expect(page.locator("#cut")).to_be_visible()
        page.unroute("**/api/v1/live")
        expect(page.locator("#cut")).to_be_hidden()
        store(engine, [scored_article(90_001, minutes=48 * 60 + 1, topic="credit", title="Heard again")])
        expect(page.get_by_text("Heard again")).to_be_visible()
        page.close()


@with_news
def test_whose_login_is_over_is_asked_to_log_in_again(browser: Browser, database_url: str, engine: Engine) -> None:
    Accounts(engine).add("ada", PASSWORD, Role.VIEWER)
    with served(database_url, auth="local") as at:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{at}/login?next=%2Falerts")
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        expect(page.locator(".incident").first).to_be_visible()
        Accounts(engine).remove("ada")
        store(engine, [scored_article(90_001, minutes=48 * 60 + 1, topic="credit")])  # the stream's next word
        expect(page).to_have_url(re.compile(r"/login\?next=%2Falerts"))
        context.close()
