"""In a real browser: logging in, by a password and by an identity provider on loopback; and putting a model live."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect
from sqlalchemy import Engine

from crosswind.export.bundle import read_manifest
from crosswind.export.registry import Registry
from crosswind.stream.adapters.postgres.accounts import Accounts, Role
from tests.identity_provider import identity_provider, settings_for
from tests.served import served

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("filled")]

PASSWORD = "correct horse battery"


def log_in(page: Page, name: str, password: str, button: str, given: str) -> None:
    """Ada gives a password on the login page, whose fields are called so."""
    page.get_by_label(name).fill("ada")
    page.get_by_label(password).fill(given)
    page.get_by_role("button", name=button).click()


@pytest.fixture
def address(database_url: str, tmp_path: Path, tiny_bundle: Path) -> Iterator[str]:
    Registry(str(tmp_path / "models")).add(tiny_bundle)
    with served(database_url, data_dir=tmp_path) as at:
        yield at


def test_who_logs_in_by_a_password_gets_in_and_out(browser: Browser, database_url: str, engine: Engine) -> None:
    Accounts(engine).add("ada", PASSWORD, Role.VIEWER)
    with served(database_url, auth="local") as at:
        page = browser.new_page()
        page.goto(f"{at}/rules")
        log_in(page, "Name", "Password", "Log in", PASSWORD)
        expect(page).to_have_url(f"{at}/rules")
        page.get_by_role("button", name="Log out").click()
        expect(page).to_have_url(f"{at}/login")
        page.close()


def test_the_way_in_and_out_is_in_the_language_of_the_browser(
    browser: Browser, database_url: str, engine: Engine
) -> None:
    Accounts(engine).add("ada", PASSWORD, Role.VIEWER)
    with served(database_url, auth="local") as at:
        context = browser.new_context(locale="zh-CN")
        page = context.new_page()
        page.goto(f"{at}/rules")
        expect(page.locator("html")).to_have_attribute("lang", "zh")
        log_in(page, "名称", "密码", "登录", "wrong")
        expect(page.get_by_role("alert")).to_have_text("用户名或密码不正确。")
        log_in(page, "名称", "密码", "登录", PASSWORD)
        expect(page).to_have_url(f"{at}/rules?ui=zh")
        page.get_by_role("button", name="退出登录").click()
        expect(page).to_have_url(f"{at}/login?next=%2F%3Fui%3Dzh")
        page.get_by_role("link", name="English").click()
        expect(page.get_by_role("button", name="Log in")).to_be_visible()
        context.close()


def test_who_logs_in_by_the_provider_comes_back_and_acts(browser: Browser, database_url: str) -> None:
    with identity_provider() as provider, served(database_url, **settings_for(provider)) as at:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{at}/alerts")
        expect(page).to_have_url(f"{at}/login?next=%2Falerts")
        page.get_by_role("link", name="Log in with single sign-on").click()
        expect(page).to_have_url(f"{at}/alerts")
        expect(page.locator("#account")).to_contain_text(re.compile(r"sso:ada-\w{16} \(analyst\)"))
        expect(page.locator("button.act").first).to_be_visible()
        held = {cookie["name"]: cookie for cookie in context.cookies()}
        assert list(held) == ["crosswind"]
        assert held["crosswind"]["httpOnly"]
        page.get_by_role("button", name="Log out").click()
        expect(page).to_have_url(f"{at}/login")
        context.close()


def test_a_model_is_put_live_after_a_question(open_page: Callable[..., Page], tiny_bundle: Path) -> None:
    version, asked = read_manifest(tiny_bundle).version, []
    page = open_page("/models")

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept() if len(asked) > 1 else dialog.dismiss()

    page.on("dialog", answer)
    row = page.locator("#bundles tr", has_text=version)
    button = row.get_by_role("button", name="Put live")
    button.click()
    expect(button).to_have_text("Put live")
    expect(page.locator("#models")).to_contain_text("Nothing was deployed yet.")
    button.click()
    expect(row).to_contain_text("● chosen")
    expect(page.locator("#models .panel").last).to_contain_text("deploy")
    assert asked == [f"Put tiny ({version}) live? It scores every article from then on."] * 2
