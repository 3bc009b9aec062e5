"""What the code tools make of a sandbox that lies."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from orchestrion.core.errors import UnsafePath
from orchestrion.core.events import EventBase, RunNotice, ToolOutput
from orchestrion.core.settings import load_settings
from orchestrion.sandbox.protocols import Output, Rich, Sandbox
from orchestrion.store.workspace import Workspace
from orchestrion.tools.code import _announce, _keep_results
from orchestrion.tools.context import RunContext
from orchestrion.tools.output import MODEL_BUDGET, OutputStream, shorten

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nrest").decode()


class Recorded(RunContext):
    """A context whose events are kept in a list."""

    def __init__(self, root: Path) -> None:
        self.events: list[EventBase] = []

        async def append(event: EventBase) -> EventBase:
            self.events.append(event)
            return event

        async def acquire() -> Sandbox:
            raise AssertionError("no sandbox is needed")

        super().__init__("run_x", "ses_x", Workspace(root / "ws"), load_settings(home=root), append, acquire)


@pytest.fixture
def context(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


@pytest.mark.parametrize("lie", ["", "not base64!", "PHN2Zz4=", PNG[:-1] + "*", "\x00", "é"])
async def test_what_is_no_picture_is_not_kept_as_one(context: Recorded, lie: str) -> None:
    assert await _keep_results(context, "c", [Rich("png", lie), Rich("png", PNG)]) == ["charts/figure-1.png"]
    assert [file.path for file in await context.workspace.list()] == ["charts/figure-1.png"]
    assert [event.code for event in context.events if isinstance(event, RunNotice)] == ["figure_unusable"]


SVG = "<?xml version='1.0'?><svg/>"
JPEG = base64.b64encode(b"\xff\xd8\xffrest").decode()
PDF = base64.b64encode(b"%PDF-1.7").decode()


async def test_every_kind_of_picture_becomes_a_file_of_its_own(context: Recorded) -> None:
    pictures = [Rich("png", PNG), Rich("svg", SVG), Rich("jpeg", JPEG), Rich("pdf", PDF)]
    kept = await _keep_results(context, "c", pictures)
    assert kept == [f"charts/figure-{n}.{kind}" for n, kind in enumerate(("png", "svg", "jpeg", "pdf"), 1)]
    shown = [event.result.data for event in context.events if isinstance(event, ToolOutput) and event.result]
    assert shown == kept


async def test_what_nothing_shows_is_not_passed_on(context: Recorded) -> None:
    lies = [Rich("svg", "alert(1)"), Rich("jpeg", PNG), Rich("pdf", PNG)]
    dull = [Rich("javascript", "alert(1)"), Rich("data", "{}"), Rich("text", "1")]
    assert await _keep_results(context, "c", lies + dull) == []
    shown = [event.result for event in context.events if isinstance(event, ToolOutput)]
    assert [result.kind for result in shown if result] == ["text"]
    assert len([event for event in context.events if isinstance(event, RunNotice)]) == 3


async def test_a_planted_link_takes_no_figure_elsewhere(context: Recorded, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    context.workspace.root.mkdir()
    (context.workspace.root / "charts").symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafePath):
        await _keep_results(context, "c", [Rich("png", PNG)])
    assert os.listdir(tmp_path / "outside") == []


async def test_a_flood_of_files_is_announced_in_part(context: Recorded) -> None:
    for number in range(60):
        await context.workspace.write_text(f"{number}.txt", "x")
    (context.workspace.root / os.fsdecode(b"\xff.txt")).write_text("x")
    await _announce(context, {})
    assert len(context.events) == 40
    for event in context.events:
        event.model_dump_json()


async def test_endless_output_is_cut_for_readers_and_for_the_model(context: Recorded) -> None:
    stream = OutputStream(context, "c")
    for _ in range(100):
        await stream(Output("stdout", "x" * 10_000))
    await stream.close()
    shown = "".join(event.text for event in context.events if isinstance(event, ToolOutput))
    assert len(shown) < 257_000
    assert "further output is not shown" in shown
    assert len(shorten("x" * 10**6)) < MODEL_BUDGET + 100
