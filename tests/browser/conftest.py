"""Debian's Chromium, driven by Playwright; these tests are skipped where it is not installed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import Engine

from tests.newsroom import fill
from tests.served import served

CHROMIUM = Path("/usr/bin/chromium")
DEADLINE_MS = 30_000
"""Generous: the browser may share two cores with whatever else is tested."""

expect.set_options(timeout=DEADLINE_MS)

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium: install Debian's chromium to run the browser tests")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def address(database_url: str) -> Iterator[str]:
    """A dashboard on a database that is still empty; tests fill it."""
    with served(database_url) as at:
        yield at


@pytest.fixture
def filled(engine: Engine) -> None:
    fill(engine)


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Opens a path; afterwards no page may have asked another host, or written an error to its console."""
    contexts, wrong = [], []

    def note(kind: str, what: Any) -> None:
        wrong.append(f"{kind}: {what}")

    def opening(path: str = "/", *, width: int = 1400, height: int = 1000, dark: bool = False) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(DEADLINE_MS)
        page.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else note("asked", r.url))
        page.on("console", lambda m: note("console", m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: note("error", error))
        page.goto(address + path)
        return page

    yield opening
    for context in contexts:
        context.close()
    assert wrong == []
