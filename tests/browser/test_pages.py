import csv
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, text

from crosswind.models.taxonomy import TOPICS
from crosswind.stream.adapters.postgres.deployments import PostgresDeployments, started
from crosswind.stream.service.deployment import Event, Kind, Slot
from tests.builders import scored_article
from tests.newsroom import START, fill, store

Open = Callable[..., Page]
SCREENSHOTS = Path(__file__).parents[2] / "docs" / "screenshots"
HOSTILE = [
    "<script>document.title='pwned'</script> falls",
    "<img src=x onerror=\"document.title='pwned'\"> falls",
    "\u202eevil \u2066reversed <b>bold</b>",
    "{{constructor.constructor('alert(1)')()}} &lt;i&gt;",
]

pytestmark = pytest.mark.timeout(120)
filled = pytest.mark.usefixtures("filled")


def rows(page: Page) -> list[str]:
    page.locator(".articles tbody tr").first.wait_for()
    return page.locator(".articles .headline").all_inner_texts()


def card(page: Page, topic: str) -> str:
    return f".card:has(a[href^='/series?topic={topic}'])"


def until(page: Page, expression: str, seconds: float = 15.0) -> None:
    """Waits until an expression is true in the page. Playwright's own waiting needs eval, which our CSP forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)


def test_an_empty_database_waits_and_then_fills_by_itself(open_page: Open, engine: Engine) -> None:
    page = open_page()
    expect(page.get_by_role("heading", name="Waiting for articles")).to_be_visible()
    store(engine, [scored_article(number, topic="macro") for number in range(10)])
    expect(page.get_by_text("Bank 9 fails")).to_be_visible()
    expect(page.get_by_role("heading", name="Waiting for articles")).to_be_hidden()


@filled
def test_the_overview_draws_every_topic_with_its_alerts(open_page: Open) -> None:
    page = open_page()
    expect(page.locator(".card .main-svg .scatterlayer .trace path.js-line").first).to_be_attached()
    assert page.locator(".card").count() == len(TOPICS)
    expect(page.locator(f"{card(page, 'credit')} .badge.alert")).to_have_text(re.compile("1 alert"))
    expect(page.locator(f"{card(page, 'credit')} .shapelayer path").first).to_be_attached()
    expect(page.locator(".card .annotation-text", has_text="no data").first).to_be_attached()
    expect(page.locator(".freshness")).to_contain_text("data to 04 Mar 08:5")
    if os.environ.get("CROSSWIND_SCREENSHOTS"):
        page.wait_for_load_state("load")
        page.screenshot(path=SCREENSHOTS / "overview.png")


@filled
def test_a_language_is_filtered_and_kept_in_the_address(open_page: Open) -> None:
    page = open_page()
    rows(page)
    page.locator("#langs").click()
    page.locator(".dash-dropdown-content .dash-options-list-option", has_text=re.compile("^ja$")).click()
    expect(page).to_have_url(re.compile(r"langs=ja"))
    expect(page.locator(".articles .lang").filter(has_not_text="ja")).to_have_count(0)
    page.reload()
    rows(page)
    assert set(page.locator(".articles .lang").all_inner_texts()) == {"ja"}


@filled
def test_an_address_is_restored(open_page: Open) -> None:
    page = open_page("/?range=6h&topics=credit,macro&sentiment=negative")
    rows(page)
    expect(page.locator("#range input[value='6h'], #range label:has(input:checked)").first).to_be_attached()
    assert page.locator("#range label:has(input:checked)").inner_text() == "6 h"
    expect(page.locator(".card:visible")).to_have_count(2)
    assert set(page.locator(".articles .topic").all_inner_texts()) <= {"credit", "macro"}
    assert set(page.locator(".articles .sentiment").all_inner_texts()) == {"▼ negative"}


@filled
def test_the_range_is_picked_and_back_goes_back(open_page: Open) -> None:
    page = open_page()
    rows(page)
    page.locator("#range label", has_text="6 h").click()
    expect(page).to_have_url(re.compile("range=6h"))
    page.go_back()
    expect(page.locator("#range label:has(input:checked)")).to_have_text("48 h")


def test_a_hostile_title_is_shown_as_text(open_page: Open, engine: Engine) -> None:
    made = [scored_article(n, title=title, source="<i>wire</i>") for n, title in enumerate(HOSTILE)]
    store(engine, [*made, *(scored_article(n) for n in range(10, 14))])
    page = open_page()
    shown = rows(page)
    assert [title for title in HOSTILE if title not in shown] == []
    assert page.title() == "Crosswind"
    assert page.locator(".articles script, .articles img, .articles i, .articles b").count() == 0


@filled
@pytest.mark.parametrize("path", ["/", "/series?topic=credit"])
def test_a_page_opens_at_its_top(open_page: Open, path: str) -> None:
    page = open_page(path)
    rows(page)
    expect(page.locator("#pick")).to_contain_text("Only new stories")
    assert page.evaluate("window.scrollY") == 0


@filled
def test_new_articles_arrive_while_one_looks(open_page: Open, engine: Engine) -> None:
    page = open_page()
    before = page.locator(".kpi strong").first.inner_text()
    rows(page)
    news = scored_article(90_001, minutes=48 * 60 + 1, topic="credit", title="Fresh from the wire")
    store(engine, [news])
    expect(page.get_by_text("Fresh from the wire")).to_be_visible()
    expect(page.locator(".kpi strong").first).not_to_have_text(before)


LOOKED_AT = "document.querySelector('#series .js-plotly-plot').layout.xaxis.range"


def zoom(page: Page) -> None:
    page.locator("#series .main-svg .barlayer").first.wait_for(state="attached")
    box = page.locator("#series .plot-container").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 120)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 120, steps=5)
    page.mouse.up()


def to_the_minute(ends: list[str]) -> list[str]:
    return [end[:16].replace("T", " ") for end in ends]


@filled
def test_a_zoom_is_kept_while_data_arrives(open_page: Open, engine: Engine) -> None:
    page = open_page("/series?topic=credit")
    rows(page)
    for number in range(2):
        zoom(page)
        zoomed = page.evaluate(LOOKED_AT)
        title = f"Fresh from the wire, {number}"
        store(engine, [scored_article(90_002 + number, minutes=48 * 60 + 1 + number, topic="credit", title=title)])
        expect(page.get_by_text(title)).to_be_visible()
        assert to_the_minute(page.evaluate(LOOKED_AT)) == to_the_minute(zoomed)
    assert not zoomed[0].startswith(f"{START:%Y-%m-%dT09}")


@filled
def test_an_answer_already_on_its_way_does_not_undo_a_zoom(open_page: Open, engine: Engine) -> None:
    page = open_page("/series?topic=credit")
    rows(page)
    page.locator("#series .main-svg .barlayer").first.wait_for(state="attached")
    page.evaluate("""() => { const early = window.dash_clientside.crosswind.series;  // hold every answer back a while
        window.dash_clientside.crosswind.series = a => new Promise(r => setTimeout(r, 1500)).then(() => early(a)); }""")
    store(engine, [scored_article(90_001, minutes=48 * 60 + 1, topic="credit", title="On its way")])
    expect(page.get_by_text("On its way")).to_be_visible()
    zoom(page)
    expect(page).to_have_url(re.compile("zoom=2026-03-0"))
    zoomed = page.evaluate(LOOKED_AT)
    page.wait_for_timeout(4000)  # both answers have arrived: that to the news, and that to the new address
    assert to_the_minute(page.evaluate(LOOKED_AT)) == to_the_minute(zoomed)


@filled
def test_a_zoom_is_in_the_address_and_restored(open_page: Open) -> None:
    page = open_page("/series?topic=credit&zoom=2026-03-03T12:00:00Z,2026-03-03T20:00:00Z")
    look = f"({LOOKED_AT} || []).map(end => end.slice(0, 16).replace('T', ' ')).join()"
    wanted = "2026-03-03 12:00,2026-03-03 20:00"
    until(page, f"document.querySelector('#series .barlayer') && {look} === '{wanted}'")


@filled
def test_a_name_leads_from_an_article_to_its_own_series_and_a_point_to_its_articles(
    open_page: Open, engine: Engine
) -> None:
    about = [scored_article(80_000 + n, minutes=47 * 60 + n, entities=("Northgate <b>AG",), topic="credit")
             for n in range(30)]  # fmt: skip
    store(engine, about)
    page = open_page()
    rows(page)
    page.locator("#entities a", has_text="Northgate <b>AG").click()
    expect(page.get_by_role("heading", name="Northgate <b>AG")).to_be_visible()
    expect(page.locator(".articles .headline")).to_have_count(25)
    expect(page.locator(".articles .names").filter(has_not_text="Northgate")).to_have_count(0)
    page.locator("#series .barlayer .point path").first.wait_for(state="attached")
    bars = [bar.bounding_box() for bar in page.locator("#series .barlayer .trace").first.locator(".point path").all()]
    box = max((box for box in bars if box), key=lambda box: box["height"])
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page).to_have_url(re.compile(r"pick=(\*|%2A),2026"))
    expect(page.locator("#pick")).to_contain_text("all topics from")
    rows(page)
    expect(page.locator(".articles .names").filter(has_not_text="Northgate")).to_have_count(0)


@filled
def test_the_usual_range_is_drawn_behind_the_share(open_page: Open) -> None:
    page = open_page("/series?topic=credit&range=24h")
    rows(page)
    expect(page.locator("#series .scatterlayer .trace path.js-fill").first).to_be_attached()
    drawn = page.evaluate("document.querySelector('#series .js-plotly-plot').data.map(t => t.name)")
    assert drawn[:3] == ["usual, low", "usual, high", "expected share"]
    if os.environ.get("CROSSWIND_SCREENSHOTS"):
        page.screenshot(path=SCREENSHOTS / "series.png")


@filled
def test_what_is_shown_is_exported(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/series?topic=credit&langs=ja")
    rows(page)
    page.locator("#series .barlayer").first.wait_for(state="attached")
    files = {}
    for name in ("Articles CSV", "Chart CSV", "PNG"):
        with page.expect_download() as started:
            page.get_by_text(name, exact=True).click()
        started.value.save_as(tmp_path / name)
        files[name] = (tmp_path / name).read_bytes()
    table = list(csv.DictReader(files["Articles CSV"].decode("utf-8-sig").splitlines()))
    assert {(row["topic"], row["lang"]) for row in table} == {("credit", "ja")}
    chart = list(csv.DictReader(files["Chart CSV"].decode("utf-8-sig").splitlines()))
    assert sum(int(row["articles"]) for row in chart) == len(table) > 0
    assert any("alert" in row["alert"] for row in chart)
    assert any(row["no_data"] for row in chart)
    assert files["PNG"].startswith(b"\x89PNG")


@filled
def test_a_click_on_a_chart_lists_the_articles_behind_it(open_page: Open) -> None:
    page = open_page("/?range=48h")
    rows(page)
    strip = page.locator(f"{card(page, 'credit')} .barlayer .point path").last
    strip.wait_for(state="attached")
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page).to_have_url(re.compile(r"pick=credit,2026-03-0"))
    expect(page.locator("#pick")).to_contain_text("credit from")
    expect(page.locator(".articles .topic").filter(has_not_text="credit")).to_have_count(0)
    page.get_by_text("show all").click()
    expect(page).not_to_have_url(re.compile("pick="))


@filled
def test_older_articles_are_one_click_away(open_page: Open) -> None:
    page = open_page()
    first = rows(page)
    page.get_by_role("link", name="Older").click()
    expect(page).to_have_url(re.compile("before="))
    expect(page.locator(".articles .headline").first).not_to_have_text(first[0])
    page.get_by_role("link", name="Newest").click()
    expect(page.locator(".articles .headline").first).to_have_text(first[0])


@filled
def test_a_card_leads_to_its_series_and_an_alert_to_its_articles(open_page: Open) -> None:
    page = open_page()
    rows(page)
    page.get_by_role("link", name=re.compile("^credit", re.IGNORECASE)).first.click()
    expect(page.get_by_role("heading", name="credit", exact=True)).to_be_visible()
    expect(page.locator("#series .scatterlayer .trace").first).to_be_attached()
    page.get_by_role("link", name="Articles of this alert").first.click()
    expect(page.locator("#pick")).to_contain_text("credit from 03 Mar 17:01")


@filled
def test_alerts_tell_what_was_seen_and_expected(open_page: Open) -> None:
    page = open_page("/alerts")
    expect(page.locator(".incident")).to_have_count(2)
    expect(page.locator(".incident.firing")).to_contain_text("macro · all languages")
    expect(page.locator(".incident.resolved .evidence li")).to_have_count(5)
    expect(page.locator(".incident.resolved")).to_contain_text("4.2")


@filled
@pytest.mark.parametrize("path", ["/", "/series?topic=credit", "/alerts"])
def test_a_phone_scrolls_in_one_direction_only(open_page: Open, path: str) -> None:
    page = open_page(path, width=360, height=780)
    page.locator(".articles tbody tr, .incident").first.wait_for()
    until(page, "document.documentElement.scrollWidth <= 360")  # once the charts have their size
    assert page.locator(".articles, .incident").first.bounding_box()["width"] <= 360  # type: ignore[index]


@filled
def test_dark_is_dark(open_page: Open) -> None:
    page = open_page(dark=True)
    rows(page)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 22, 29)"


@filled
def test_a_right_to_left_title_runs_right_to_left(open_page: Open) -> None:
    page = open_page("/?langs=ar&range=all")
    rows(page)
    bdi = page.locator(".articles .headline bdi").first
    assert bdi.evaluate("element => getComputedStyle(element).direction") == "rtl"


def test_a_page_that_is_not_there_says_so(open_page: Open, engine: Engine) -> None:
    fill(engine, 50)
    page = open_page("/nowhere")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()


@filled
def test_an_alert_is_taken_judged_and_silenced(open_page: Open, engine: Engine) -> None:
    page = open_page("/alerts")
    firing = page.locator(".incident.firing")
    firing.get_by_role("button", name="Acknowledge").click()
    expect(firing).to_contain_text("taken by local")
    firing.get_by_role("button", name="Not useful").click()
    expect(firing.get_by_role("button", name="✓ Not useful")).to_be_visible()
    firing.get_by_role("button", name="Silence 2 h").click()
    expect(page.locator(".silences")).to_contain_text("topic = macro")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT useful FROM verdict")).scalars().all() == [False]
    page.locator(".silences").get_by_role("button", name="End").click()
    expect(page.locator(".silences")).to_have_count(0)


@filled
def test_the_models_page_tells_what_is_live_and_what_happened(open_page: Open, engine: Engine) -> None:
    book = PostgresDeployments(engine)
    book.record("live", started("tiny-1", "default", "worker-a"))
    wish = book.wish("live", Slot.LIVE, "tiny-2", "file:///nowhere", reason="deploy")
    book.record("live", Event(wish.seq, Slot.LIVE, Kind.FAILED, "tiny-2", "file:///nowhere", "worker-a", "no <b>file"))
    page = open_page()
    page.get_by_role("link", name="Models").click()
    expect(page.locator("#models .panel").first).to_contain_text("tiny-1")
    expect(page.locator("#models .plain").last).to_contain_text("no <b>file")


@filled
def test_the_interface_speaks_chinese_and_stays_in_it(open_page: Open) -> None:
    page = open_page()
    rows(page)
    page.get_by_role("link", name="中文").click()
    expect(page.get_by_role("heading", name="最新文章")).to_be_visible()
    expect(page.locator("#label-range")).to_have_text("时段")
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    page.get_by_role("link", name="警报", exact=True).click()
    expect(page.locator(".incident.firing")).to_contain_text("触发中")
    expect(page).to_have_url(re.compile("ui=zh"))
    page.get_by_role("link", name="English").click()
    expect(page.locator(".incident.firing")).to_contain_text("firing")
