"""The page in a real browser, before a real server: what a user sees of runs, files, stops and lost connections."""

from __future__ import annotations

import re
import signal
import zipfile
from pathlib import Path

import pytest
from page_support import NEEDS, Bench
from playwright.async_api import Locator, Page, expect

from orchestrion.testing import PlaybookResponder, Reply, Request, StandIn, ToolCall
from orchestrion.testing.playbook import role_of

TABLE = "city;units;day\n" + "".join(
    f"{'Bern' if n % 2 else 'Zürich'};{n * 3};2026-01-{n:02d}\n" for n in range(1, 25)
)
STORY = " ".join(f"word{n}" for n in range(120))

pytestmark = NEEDS


async def send(page: Page, goal: str) -> Locator:
    """Send a goal and return the part of the page that is its run."""
    runs = page.get_by_test_id("run")
    before = await runs.count()
    box = page.get_by_role("textbox", name="Goal")
    await box.fill(goal)
    await box.press("Enter")
    run = runs.nth(before)
    await run.wait_for()
    return run


async def upload(page: Page, name: str, content: bytes) -> None:
    await page.get_by_test_id("file-input").set_input_files({"name": name, "mimeType": "text/csv", "buffer": content})


async def test_hello_streams_its_answer_and_shows_no_plan(bench: Bench, page: Page) -> None:
    server = await bench.serve_with(StandIn(lambda request: Reply(text=STORY, delay=0.05)))
    await page.goto(server.url)
    run = await send(page, "Hello")
    answer = run.get_by_test_id("answer")
    await expect(answer).to_contain_text("word1 ")
    assert "word119" not in await answer.inner_text(), "the answer came at once instead of streaming"
    await expect(answer).to_have_text(STORY)
    await expect(run.get_by_test_id("usage")).to_contain_text("tokens")
    for absent in ("plan", "activity", "route", "finished"):
        await expect(run.get_by_test_id(absent)).to_have_count(0)


@pytest.mark.usefixtures("needs_sandboxes")
async def test_a_table_becomes_a_report_that_a_reload_restores(bench: Bench, page: Page, tmp_path: Path) -> None:
    server = await bench.serve()
    await page.goto(server.url)
    await expect(page.get_by_test_id("banner")).to_contain_text("not a language model")
    await upload(page, "sales.csv", TABLE.encode())
    await expect(page.get_by_test_id("uploads")).to_contain_text("sales.csv")
    await expect(page).to_have_url(re.compile(r"#/s/ses_"))
    run = await send(page, "Analyse the sales by city")
    await expect(run.locator("[data-testid=plan] li[data-status=active]")).to_have_count(1)
    await expect(run.get_by_test_id("usage")).to_be_visible()
    await check_report(run)
    before = (await run.get_by_test_id("answer").inner_text(), await run.get_by_test_id("plan").inner_text())

    await page.reload()
    await check_report(run)
    assert before == (await run.get_by_test_id("answer").inner_text(), await run.get_by_test_id("plan").inner_text())
    await check_archive(page, run, tmp_path)
    await check_narrow(page)


async def check_report(run: Locator) -> None:
    plan = run.get_by_test_id("plan")
    await expect(plan.locator("li[data-status=done]").first).to_be_visible()
    await expect(plan.locator("li:not([data-status=done])")).to_have_count(0)
    report = run.get_by_test_id("report")
    await expect(report.get_by_role("heading", level=1)).to_be_visible()
    charts = report.get_by_role("img")
    assert await charts.count() >= 2
    for chart in await charts.all():
        await chart.scroll_into_view_if_needed()
        await expect(chart).to_have_js_property("complete", True)
        assert await chart.evaluate("image => image.naturalWidth") > 0


async def check_archive(page: Page, run: Locator, folder: Path) -> None:
    await run.get_by_role("tab", name=re.compile("Files")).click()
    async with page.expect_download() as waiting:
        await run.get_by_role("button", name="Download all").click()
    archive = folder / "all.zip"
    await (await waiting.value).save_as(archive)
    assert {"report.md", "uploads/sales.csv"} <= set(zipfile.ZipFile(archive).namelist())


async def check_narrow(page: Page) -> None:
    await page.set_viewport_size({"width": 390, "height": 844})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    await page.get_by_role("button", name="Sessions").click()
    await expect(page.get_by_role("dialog").get_by_role("link", name="New session")).to_be_visible()


class NeverDone:
    """Plays the playbook, but for the data agent: that one waits in the sandbox for a minute."""

    def __init__(self) -> None:
        self._playbook = PlaybookResponder()

    async def __call__(self, request: Request) -> Reply:
        if role_of(request) == "data":
            return Reply(tool_calls=[ToolCall("execute", {"command": "echo begun; sleep 60"})])
        return await self._playbook(request)


@pytest.mark.usefixtures("needs_sandboxes")
async def test_stop_ends_a_long_run(bench: Bench, page: Page) -> None:
    server = await bench.serve_with(StandIn(NeverDone()))
    await page.goto(server.url)
    await upload(page, "sales.csv", TABLE.encode())
    await expect(page.get_by_test_id("uploads")).to_contain_text("sales.csv")
    run = await send(page, "Analyse the sales by city")
    tool = run.locator("[data-testid=tool][data-status=running]")
    await expect(tool).to_contain_text("begun")
    await page.get_by_role("button", name="Stop").click()
    await expect(run.locator("[data-testid=end][data-state=cancelled]")).to_be_visible(timeout=10_000)
    await expect(tool).to_have_count(0)
    await expect(page.get_by_role("button", name="Send")).to_be_visible()


async def test_a_lost_server_is_told_and_the_run_followed_to_its_end(bench: Bench, page: Page) -> None:
    stand_in = StandIn(lambda request: Reply(text=STORY, delay=0.1))
    server = await bench.serve_with(stand_in)
    await page.goto(server.url)
    run = await send(page, "Hello")
    await expect(run.get_by_test_id("answer")).to_contain_text("word2 ")
    await server.end(signal.SIGKILL)
    await expect(run.get_by_test_id("live")).to_contain_text("reconnecting")
    await server.start()
    await expect(run.get_by_test_id("usage")).to_be_visible()
    answer = await run.get_by_test_id("answer").inner_text()
    assert answer == STORY, "what was void before the restart must not show beside the new answer"


async def test_an_upload_over_the_limit_says_so(bench: Bench, page: Page) -> None:
    server = await bench.serve(ORCHESTRION_UPLOAD_LIMIT_MB="1")
    await page.goto(server.url)
    await upload(page, "big.csv", b"a,b\n" * 700_000)
    await expect(page.get_by_test_id("uploads").get_by_role("alert")).to_contain_text("limit")
    await page.get_by_role("button", name="Dismiss").click()
    await expect(page.get_by_test_id("uploads").get_by_role("alert")).to_have_count(0)


async def test_a_server_with_keys_asks_for_one(bench: Bench, page: Page) -> None:
    server = await bench.serve(ORCHESTRION_API_KEYS="let-me-in-please-0123456789")
    await page.goto(server.url)
    key = page.get_by_label("Key", exact=True)
    await key.fill("wrong")
    await key.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("did not accept")
    await key.fill("let-me-in-please-0123456789")
    await key.press("Enter")
    run = await send(page, "Hello")
    await expect(run.get_by_test_id("answer")).to_contain_text("Orchestrion")
    await page.reload()
    await expect(run.get_by_test_id("answer")).to_contain_text("Orchestrion")


async def test_sessions_are_renamed_and_deleted(bench: Bench, page: Page) -> None:
    server = await bench.serve()
    await page.goto(server.url)
    await send(page, "Hello")
    row = page.get_by_role("navigation", name="Sessions").get_by_role("listitem")
    await row.hover()
    await row.get_by_role("button").click()
    await page.get_by_role("menuitem", name="Rename").click()
    title = page.get_by_role("textbox", name="Session title")
    await title.fill("First light")
    await title.press("Enter")
    await expect(row).to_contain_text("First light")
    await row.get_by_role("button").click()
    await page.get_by_role("menuitem", name="Delete…").click()
    await page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
    await expect(row).to_have_count(0)
    await expect(page.get_by_test_id("run")).to_have_count(0)
