"""The pages of work in a real browser: rules, backtests, subscriptions, feeds; and axe over every page."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from crosswind.dashboard.rules_desk import digest
from crosswind.stream.service.rules import DEFAULT
from tests.newsroom import SURGE
from tests.served import served

Open = Callable[..., Page]
SCREENSHOTS = Path(__file__).parents[2] / "docs" / "screenshots"
pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("filled")]
READY = {
    "/": ".articles tbody tr", "/series?topic=credit": ".articles tbody tr", "/alerts": ".incident",
    "/models": "#models .panel", "/rules": "#rules-text", "/subscriptions": "form.ask",
    "/backtests": "form.ask", "/feeds": "#feeds table",
}  # fmt: skip
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
"""WCAG 2.2, A and AA."""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return Path(shutil.copy(DEFAULT, tmp_path / "rules.yaml"))


@pytest.fixture
def address(database_url: str, tmp_path: Path, rules: Path) -> Iterator[str]:
    with served(database_url, rules=rules, data_dir=tmp_path / "data") as at:
        yield at


def violations(page: Page) -> list[str]:
    found = Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"]}).response["violations"]
    return [f"{one['id']} ({one['impact']}): {node['html'][:120]}" for one in found for node in one["nodes"][:3]]


def keep(page: Page, name: str) -> None:
    if os.environ.get("CROSSWIND_SCREENSHOTS"):
        page.screenshot(path=SCREENSHOTS / f"{name}.png")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_on_any_page(open_page: Open, address: str, dark: bool) -> None:
    page = open_page("/", dark=dark)
    found = {}
    for path, ready in READY.items():
        page.goto(address + path)
        page.locator(ready).first.wait_for()
        found[path] = violations(page)
    page.goto(address + "/docs")
    found["/docs"] = violations(page)
    told = [f"{path} {one}" for path, some in found.items() for one in some]
    assert not told, "\n".join(told)


def test_a_subscription_is_made_paused_and_its_log_is_in_the_address(open_page: Open) -> None:
    page = open_page("/subscriptions")
    page.locator("[name=name]").fill("<b>desk</b>")
    page.locator("[name=channel]").select_option("stream")
    page.locator("[name='topics[]']").fill("credit, macro")
    page.locator("[name='entities[]']").fill("Amazon.com, Inc.\n\nMoody's\n")
    page.get_by_role("button", name="Subscribe").click()
    row = page.locator("#subscriptions tbody tr")
    expect(row).to_contain_text("<b>desk</b>")
    expect(row).to_contain_text("credit, macro")
    [made] = page.evaluate("fetch('/api/v1/subscriptions').then(answer => answer.json())")
    assert (made["topics"], made["entities"]) == (["credit", "macro"], ["Amazon.com, Inc.", "Moody's"])
    row.get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("paused")
    row.get_by_role("link").click()
    expect(page).to_have_url(re.compile("open=sub_"))
    page.reload()
    expect(page.locator("#deliveries")).to_contain_text("Nothing was sent yet.")
    keep(page, "subscriptions")


def test_rules_are_saved_after_a_preview_only(open_page: Open, rules: Path) -> None:
    page = open_page("/rules")
    area = page.locator("#rules-text")
    changed = rules.read_text("utf-8") + "# ours\n"
    area.fill(changed)
    page.locator("#rules-look").click()
    expect(page.locator("#rules-checked")).to_have_value(digest(changed))
    expect(page.locator("#rules-preview")).to_contain_text("With the rules in use")
    keep(page, "rules")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".answer")).to_contain_text("✓")
    assert rules.read_text("utf-8") == changed
    area.fill("rules: 7")
    page.locator("#rules-look").click()
    expect(page.locator("#rules-preview .problem")).to_contain_text("not a rule file")


def test_a_backtest_is_started_watched_read_and_compared(open_page: Open, address: str) -> None:
    page = open_page("/backtests")
    for name in ("first", "second"):
        page.locator("[name=name]").fill(name)
        page.locator("[name=truth]").fill(
            f"onset,end,topic,name\n{SURGE[0].isoformat()},{SURGE[1].isoformat()},credit,run on a bank"
        )
        page.get_by_role("button", name="Start").click()
        expect(page.locator("#backtests tr", has_text=name)).to_contain_text("✓ done", timeout=90_000)
    page.locator("#backtests a", has_text="first").click()
    expect(page.locator("#backtest-figures")).to_contain_text("Events warned of")
    page.locator("#backtests tr", has_text="second").get_by_role("link", name="compare").click()
    expect(page).to_have_url(re.compile("open=first&against=second"))
    page.reload()
    expect(page.locator("#backtest-figures th")).to_have_count(3)
    keep(page, "backtests")


def test_feeds_are_narrowed_by_state_in_the_address(open_page: Open) -> None:
    page = open_page("/feeds")
    expect(page.locator("#feeds tbody tr")).to_have_count(5)
    keep(page, "feeds")
    page.locator(".choices a", has_text="silent").click()
    expect(page).to_have_url(re.compile("only=silent"))
    expect(page.locator("#feeds")).to_contain_text("No source is in this state.")
    page.get_by_role("link", name="中文").click()
    expect(page).to_have_url(re.compile("ui=zh.*only=silent"))
    expect(page.locator("#feeds")).to_contain_text("没有来源处于此状态。")


def test_filters_are_set_with_the_keyboard_alone(open_page: Open) -> None:
    page = open_page("/alerts")
    page.locator(READY["/alerts"]).first.wait_for()
    page.locator("#range input:checked").focus()
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile("range=24h"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "topics"
    page.keyboard.press("Enter")
    expect(page.locator(".dash-dropdown-content")).to_be_visible()


@pytest.mark.parametrize("path", ["/rules", "/subscriptions", "/backtests", "/feeds"])
def test_a_phone_scrolls_in_one_direction_only(open_page: Open, path: str) -> None:
    page = open_page(path, width=360, height=780)
    page.locator(READY[path]).first.wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
