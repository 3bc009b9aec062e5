"""The page's sandbox panel in a real browser: a terminal, files, processes, a service, a pause."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_support import NEEDS, Bench
from playwright.async_api import Page, expect

pytestmark = [*NEEDS, pytest.mark.usefixtures("needs_sandboxes")]


@pytest.fixture
async def panel(bench: Bench, page: Page) -> Page:
    """A session's page with its sandbox made and shown."""
    server = await bench.serve()
    session = await bench.post(server, "/api/sessions", {"title": "Looking around"})
    await page.goto(f"{server.url}/#/s/{session['session_id']}")
    await page.get_by_label("Sandbox of this session").click()
    await page.get_by_role("button", name="Make a sandbox").click()
    await expect(page.get_by_text("Running · local")).to_be_visible()
    return page


async def test_a_shell_is_typed_into_and_its_files_are_the_sessions(panel: Page) -> None:
    screen = panel.get_by_test_id("terminal")
    await expect(screen).to_contain_text("/workspace")
    await screen.click()
    await panel.keyboard.type("echo sea > tide.txt; echo wr''itten; exit\n")
    await expect(screen).to_contain_text("written")
    await expect(panel.get_by_text("The shell has ended.")).to_be_visible()
    await panel.get_by_role("button", name="New shell").click()
    await expect(screen).to_contain_text("$")

    await panel.get_by_role("tab", name="Files").click()
    await expect(panel.get_by_role("button", name="tide.txt", exact=True)).to_be_visible()
    async with panel.expect_download() as download:
        await panel.get_by_label("Download tide.txt").click()
    assert Path(await (await download.value).path()).read_text() == "sea\n"
    await panel.get_by_label("File to upload").set_input_files(
        {"name": "up.csv", "mimeType": "text/csv", "buffer": b"a\n1\n"}
    )
    await expect(panel.get_by_role("button", name="up.csv", exact=True)).to_be_visible()
    panel.on("dialog", lambda dialog: dialog.accept())
    await panel.get_by_label("Remove tide.txt").click()
    await expect(panel.get_by_role("button", name="tide.txt", exact=True)).to_have_count(0)


async def test_a_process_is_started_watched_opened_and_stopped(panel: Page) -> None:
    await panel.get_by_role("tab", name="Processes").click()
    await expect(panel.get_by_text("Nothing runs at the moment.")).to_be_visible()
    serve = "echo '<h1>Ahoy</h1>' > index.html; echo be''gun; python3 -m http.server 8000"
    await panel.get_by_label("Command to start").fill(serve)
    await panel.keyboard.press("Enter")
    await expect(panel.get_by_label("Log of process").last).to_contain_text("begun")
    async with panel.expect_popup() as popup:
        await panel.get_by_role("button", name="Open").click()
    service = await popup.value
    for _ in range(40):  # the service may take a moment to listen
        if await service.get_by_text("Ahoy").count():
            break
        await service.wait_for_timeout(250)
        await service.reload()
    await expect(service.get_by_role("heading", name="Ahoy")).to_be_visible()
    assert await service.evaluate("self.origin") == "null", "a service inside must not have our page's origin"
    await service.close()
    await panel.get_by_label("Stop process").click()
    await expect(panel.get_by_text("Nothing runs at the moment.")).to_be_visible()


async def test_a_pause_is_shown_and_ends(panel: Page) -> None:
    await panel.get_by_role("button", name="Pause").click()
    await expect(panel.get_by_text("It is paused")).to_be_visible()
    await panel.get_by_role("button", name="Resume").click()
    await expect(panel.get_by_text("Running · local")).to_be_visible()
