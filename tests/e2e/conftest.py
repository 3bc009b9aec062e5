"""Fixtures of the page's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from page_support import CHROMIUM, PATIENCE_MS, Bench
from playwright.async_api import Browser, Page, async_playwright, expect

from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandboxes


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield Bench(tmp_path / "home", stack)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page that must end without an uncaught error and without a broken content security policy."""
    page = await browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Security Policy" in message.text else None)
    yield page
    assert wrong == []


@pytest.fixture
async def needs_sandboxes(tmp_path: Path) -> AsyncIterator[None]:
    """Skip where no sandbox can be made; end those that the test leaves."""
    sandboxes = Sandboxes(Settings(home=tmp_path / "home"))
    state = await sandboxes.probe("local")
    if not state.ok:
        pytest.skip(f"{state.detail} {state.remedy}")
    yield
    await sandboxes.close_all()
    await sandboxes.aclose()
