"""The document-research job from the goal to the checked report, in a real sandbox, without a model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from runtime_support import running, settings_for, to_the_end, upload

from orchestrion.core import events as ev
from orchestrion.runtime import Runtime
from orchestrion.sandbox import Sandboxes
from orchestrion.store.models import RunRequest
from orchestrion.testing import Reply, Request, ToolCall
from orchestrion.tools.report import verify_report

DOCUMENTS = Path(__file__).parents[2] / "examples" / "documents"
PAGE = (
    "<html><head><title>Harbour news</title></head><body><article><h1>News</h1><p>The second electric ferry will "
    "cost 4.1 million euros and arrives in 2026, the harbour office says.</p></article></body></html>"
)


@pytest.fixture(autouse=True)
async def _needs_sandbox(sandboxes: Sandboxes) -> None:
    """Skips where no sandbox can be made."""


async def research(
    home: Path, goal: str, files: dict[str, bytes]
) -> tuple[str, list[dict[str, object]], list[ev.Event], list[str]]:
    """Carry a research goal out; return the report, its citations, the events and the problems found afterwards."""
    async with Runtime(settings_for(home)) as runtime:
        session = await runtime.create_session(owner="local")
        paths = [await upload(runtime, session.session_id, name, data) for name, data in files.items()]
        request = RunRequest(goal=goal, session_id=session.session_id, files=paths, agent="research", mode="agent")
        run, events = await to_the_end(runtime, request)
        assert run.state == "finished", run.error
        workspace = runtime.workspace(session.session_id)
        citations = json.loads(await workspace.read_text("citations.json"))
        return await workspace.read_text("report.md"), citations, events, await verify_report(workspace)


async def test_documents_of_every_kind_become_a_report_with_verbatim_quotes(tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in sorted(DOCUMENTS.iterdir())}
    goal = "What do the documents say about the cost, noise, recycling of the battery and helicopters?"
    report, citations, events, problems = await research(tmp_path / "home", goal, files)
    assert problems == []
    assert {str(c["origin"]).rsplit(".", 1)[1] for c in citations} == {"txt", "md", "html", "pdf", "docx"}
    assert "52 decibels" in report
    assert "4.6 million euros" in report
    assert "at least 90 percent of the nickel" in report
    assert "nothing on: Helicopters" in report
    assert "## Removed citations" not in report
    assert not [event for event in events if isinstance(event, ev.RunNotice)]
    assert report.index("## Key findings") < report.index("## Sources")


async def test_unreadable_uploads_are_named_and_the_rest_is_used(tmp_path: Path) -> None:
    files = {
        "good.txt": "Der Fährbetrieb kostet 236000 Euro im Jahr. Das ist weniger als früher.".encode("cp1252"),
        "empty.md": b"",
        "junk.txt": bytes(range(256)) * 20,
        "picture.pdf": b"\x89PNG\r\n\x1a\n" + b"0" * 50,
    }
    report, citations, events, problems = await research(tmp_path / "home", "Was kostet der Fährbetrieb?", files)
    assert problems == []
    assert citations[0]["quote"] == "Der Fährbetrieb kostet 236000 Euro im Jahr."
    for sentence in ("empty.md is empty.", "junk.txt is not a text document", "picture.pdf is not a text document"):
        assert sentence in report
    codes = [event.code for event in events if isinstance(event, ev.RunNotice)]
    assert codes.count("source_unreadable") == 3


async def test_a_url_of_the_goal_is_fetched_and_cited_and_a_refused_one_is_told(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = PAGE.encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/news"
    goal = f"What does {url} say about the cost of the second ferry? See http://169.254.169.254/latest/ too."
    report, citations, _, problems = await research(tmp_path / "home", goal, {})
    server.close()
    assert problems == []
    assert "The second electric ferry will cost 4.1 million euros" in report
    assert {c["origin"] for c in citations} == {url}
    assert "169.254.169.254 leads to an address that no fetch may touch" in report


async def test_a_model_that_misquotes_is_told_and_mends_it(tmp_path: Path) -> None:
    def report(quote: str) -> Reply:
        cited = {"source": "S1", "quote": quote}
        section = {"heading": "Cost", "text": "It costs much [[1]].", "charts": None, "citations": [cited]}
        return Reply(
            tool_calls=[ToolCall("write_report", {"title": "Cost", "sections": [section]}, f"call_{quote[:9]}")]
        )

    listing = Reply(tool_calls=[ToolCall("list_sources", {}, "call_list")])
    turns = [listing, report("it costs 999 euros"), report("The ferry costs 236 euros")]
    told: list[str] = []

    def respond(request: Request) -> Reply:
        if "planner" in request.system:
            return Reply("1. Read\n2. Report")
        if "summariser" in request.system:
            return Reply("Done.")
        told.append(json.dumps(request.messages))
        return turns.pop(0) if turns else Reply("The report is written.")

    async with running(tmp_path / "home", respond) as (runtime, _):
        session = await runtime.create_session(owner="local")
        path = await upload(runtime, session.session_id, "a.txt", b"The ferry costs 236 euros a day, says the board.")
        goal = "What does the ferry cost according to the document?"
        request = RunRequest(goal=goal, session_id=session.session_id, files=[path], agent="research", mode="agent")
        run, events = await to_the_end(runtime, request)
        workspace = runtime.workspace(session.session_id)
        markdown = await workspace.read_text("report.md")
        assert await verify_report(workspace) == []
    assert run.state == "finished", run.error
    removed = [event for event in events if isinstance(event, ev.RunNotice) and event.code == "citation_removed"]
    assert len(removed) == 1
    assert "it costs 999 euros" in removed[0].text
    assert any("These words are not in S1" in text for text in told)
    assert "“The ferry costs 236 euros”" in markdown
    assert "Removed citations" not in markdown
