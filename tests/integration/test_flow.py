"""The hybrid flow over the stand-in: the real clients, the real graphs, the real sandbox."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from runtime_support import CSV, running, to_the_end, types, upload

from orchestrion.core import events as ev
from orchestrion.core.errors import Conflict, NotFound
from orchestrion.sandbox import Sandboxes
from orchestrion.store.models import Budget, RunRequest
from orchestrion.testing import Failure, Reply, Request, ToolCall

PLAN = "I will look at the table.\n\n1. Load the data\n2. Report the findings"


@pytest.fixture
async def needs_sandbox(sandboxes: Sandboxes) -> None:
    """Skips where no sandbox can be made."""


def by_phase(agent: list[Reply], *, plan: str = PLAN, summary: str = "Two regions, 21 units."):
    """Answer the planner, the agent's turns in order, and the summariser."""
    turns = list(agent)

    def respond(request: Request) -> Reply:
        if "planner" in request.system:
            return Reply(plan)
        if "summariser" in request.system:
            return Reply(summary)
        return turns.pop(0) if turns else Reply("Done.")

    return respond


def code(source: str, call_id: str = "call_0") -> Reply:
    return Reply(tool_calls=[ToolCall("execute_code", {"code": source}, call_id)])


def report(text: str) -> Reply:
    sections = [{"heading": "Findings", "text": text, "charts": [], "citations": []}]
    return Reply(tool_calls=[ToolCall("write_report", {"title": "Units", "sections": sections})])


async def data_request(runtime, goal: str = "Analyse this table", **values) -> RunRequest:
    session = await runtime.create_session(owner="local")
    path = await upload(runtime, session.session_id, "units.csv", CSV.encode())
    return RunRequest(goal=goal, session_id=session.session_id, files=[path], **values)


async def test_hello_is_one_model_call_and_nothing_else(tmp_path: Path) -> None:
    before = set(sys.modules)
    async with running(tmp_path, lambda _: Reply("Hello, you.")) as (runtime, server):
        run, events = await to_the_end(runtime, RunRequest(goal="hello"))
        assert len(server.requests) == 1
    assert run.state == "finished"
    assert run.answer == "Hello, you."
    assert {"run.phase", "plan.updated", "sandbox.created", "tool.started"}.isdisjoint(types(events))
    assert "orchestrion.sandbox.local.provider" not in set(sys.modules) - before
    assert not list(tmp_path.glob("sandboxes/*"))
    assert not (tmp_path / "workspaces" / run.session_id / "plan.md").exists()
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


async def test_chat_remembers_the_session(tmp_path: Path) -> None:
    async with running(tmp_path, lambda request: Reply(f"{len(request.messages)} messages")) as (runtime, _):
        first, _ = await to_the_end(runtime, RunRequest(goal="hello"))
        second, _ = await to_the_end(runtime, RunRequest(goal="and now?", session_id=first.session_id))
    assert second.answer == "3 messages"


@pytest.mark.usefixtures("needs_sandbox")
async def test_a_task_is_planned_executed_and_summed_up(tmp_path: Path) -> None:
    turns = [
        code("import pandas as pd\ndf = pd.read_csv('uploads/units.csv')\nint(df.units.sum())"),
        report("21 units."),
    ]
    async with running(tmp_path, by_phase(turns)) as (runtime, server):
        run, events = await to_the_end(runtime, await data_request(runtime))
        workspace = runtime.workspace(run.session_id)
        texts = {name: await workspace.read_text(name) for name in ("plan.md", "task.md", "report.md", "summary.md")}
        assert "21" in server.requests[2].last_text
    assert run.state == "finished", run.error
    assert run.answer == "Two regions, 21 units."
    phases = [event.phase for event in events if isinstance(event, ev.RunPhase)]
    assert phases == ["plan", "execute", "summarize"]
    assert "1. Load the data" in texts["task.md"]
    assert "21 units." in texts["report.md"]
    assert "Two regions" in texts["summary.md"]
    assert types(events).index("sandbox.created") > types(events).index("tool.started")
    end = events[-1]
    assert isinstance(end, ev.RunFinished)
    assert end.files[0].path == "report.md"


@pytest.mark.usefixtures("needs_sandbox")
async def test_the_second_goal_finds_files_and_variables(tmp_path: Path) -> None:
    turns = [
        code("kept = 41"),
        report("First."),
        Reply("Done."),
        code("open('n.txt', 'w').write(str(kept + 1))\nkept + 1"),
        report("Second."),
    ]
    async with running(tmp_path, by_phase(turns)) as (runtime, _):
        request = await data_request(runtime)
        first, _ = await to_the_end(runtime, request)
        second, events = await to_the_end(runtime, request.model_copy(update={"goal": "Now the mean of the table"}))
        workspace = runtime.workspace(first.session_id)
        assert await workspace.read_text("n.txt") == "42"
        assert "First." in await workspace.read_text("report-1.md")
        assert "Second." in await workspace.read_text("report.md")
    assert second.state == "finished"
    assert "sandbox.reused" in types(events)


@pytest.mark.usefixtures("needs_sandbox")
async def test_a_step_limit_still_gives_a_report_that_says_so(tmp_path: Path) -> None:
    endless = [code(f"print('found', {n})") for n in range(50)]
    async with running(tmp_path, by_phase(endless)) as (runtime, _):
        run, events = await to_the_end(runtime, await data_request(runtime, budget=Budget(steps=4)))
        text = await runtime.workspace(run.session_id).read_text("report.md")
    assert run.state == "budget_spent"
    assert isinstance(events[-1], ev.RunBudgetSpent)
    assert events[-1].kind == "steps"
    assert "not complete" in text
    assert "found 1" in text
    assert events[-1].files[0].path == "report.md"


@pytest.mark.usefixtures("needs_sandbox")
async def test_a_time_limit_ends_a_cell_and_keeps_what_was_found(tmp_path: Path) -> None:
    turns = [code("print('early finding')"), code("import time; time.sleep(600)")]
    async with running(tmp_path, by_phase(turns)) as (runtime, _):
        run, _ = await to_the_end(runtime, await data_request(runtime, budget=Budget(seconds=8)))
        text = await runtime.workspace(run.session_id).read_text("report.md")
    assert run.state == "budget_spent"
    assert "early finding" in text


async def test_a_token_budget_is_counted(tmp_path: Path) -> None:
    async with running(tmp_path, by_phase([])) as (runtime, _):
        run, _ = await to_the_end(runtime, await data_request(runtime, budget=Budget(tokens=1)))
    assert run.state == "budget_spent"
    assert run.usage.input_tokens > 0


@pytest.mark.usefixtures("needs_sandbox")
async def test_tokens_that_are_not_reported_are_estimated(tmp_path: Path) -> None:
    silent = Reply("word " * 100, input_tokens=0, output_tokens=0)
    async with running(tmp_path, lambda _: silent) as (runtime, _):
        run, events = await to_the_end(runtime, RunRequest(goal="hello"))
    assert run.usage.output_tokens == 125
    assert run.usage.input_tokens > 10
    assert [event.code for event in events if isinstance(event, ev.RunNotice)] == ["usage_estimated"]


async def test_a_money_budget_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    async with running(tmp_path, lambda _: Reply("hi")) as (runtime, _):
        _, events = await to_the_end(runtime, RunRequest(goal="hello", budget=Budget(usd=0.1)))
    assert [event.code for event in events if isinstance(event, ev.RunNotice)] == ["budget_unpriced"]


@pytest.mark.usefixtures("needs_sandbox")
async def test_a_model_that_fails_midway_leaves_a_partial_report(tmp_path: Path) -> None:
    turns = [code("print('half of it')"), Reply(error=Failure(400, "prompt is too odd"))]
    async with running(tmp_path, by_phase(turns)) as (runtime, _):
        run, events = await to_the_end(runtime, await data_request(runtime))
        text = await runtime.workspace(run.session_id).read_text("report.md")
    assert run.state == "failed"
    assert "prompt is too odd" in run.error
    assert "half of it" in text
    assert "prompt is too odd" in text
    assert isinstance(events[-1], ev.RunFailed)


async def test_an_agent_that_only_talks_still_gives_a_report(tmp_path: Path) -> None:
    async with running(tmp_path, by_phase([Reply("The table has 21 units in all.")])) as (runtime, _):
        run, _ = await to_the_end(runtime, await data_request(runtime))
        assert "21 units in all" in await runtime.workspace(run.session_id).read_text("report.md")
    assert run.state == "finished"


async def test_an_overload_is_retried_and_said(tmp_path: Path) -> None:
    replies = [Reply(error=Failure(529, "Overloaded", retry_after=0)), Reply("Hello after all.")]
    async with running(tmp_path, lambda _: replies.pop(0)) as (runtime, _):
        run, events = await to_the_end(runtime, RunRequest(goal="hello"))
    assert run.answer == "Hello after all."
    assert "model.retried" in types(events)


async def test_a_refused_key_gives_the_providers_own_words(tmp_path: Path) -> None:
    async with running(tmp_path, lambda _: Reply(error=Failure(401, "invalid x-api-key"))) as (runtime, server):
        run, events = await to_the_end(runtime, RunRequest(goal="hello"))
        assert len(server.requests) == 1
    assert run.state == "failed"
    assert "invalid x-api-key" in run.error
    assert "test-key" not in "".join(event.model_dump_json() for event in events)


async def test_cancel_ends_a_stream(tmp_path: Path) -> None:
    async with running(tmp_path, lambda _: Reply("word " * 5000, delay=0.05)) as (runtime, server):
        run = await runtime.submit(RunRequest(goal="hello"), owner="local")
        async for event in runtime.follow(run.run_id, owner=None):
            if event.type == "message.delta":
                break
        ended = await runtime.cancel(run.run_id, owner=None)
        assert ended.state == "cancelled"
        async with asyncio.timeout(2):
            while server.active:
                await asyncio.sleep(0.01)
        assert server.disconnects == 1
        events = [event async for event in runtime.follow(run.run_id, owner=None)]
    assert events[-1].type == "run.cancelled"


@pytest.mark.usefixtures("needs_sandbox")
async def test_cancel_ends_processes(tmp_path: Path) -> None:
    marker = "sleep 4242"
    turns = [Reply(tool_calls=[ToolCall("execute", {"command": f"setsid {marker} & {marker}"})])]
    async with running(tmp_path, by_phase(turns)) as (runtime, _):
        run = await runtime.submit(await data_request(runtime), owner="local")
        async for event in runtime.follow(run.run_id, owner=None):
            if event.type == "tool.started":
                break
        async with asyncio.timeout(10):
            while not _processes(marker):
                await asyncio.sleep(0.05)
        assert (await runtime.cancel(run.run_id, owner=None)).state == "cancelled"
        async with asyncio.timeout(2):
            while _processes(marker):
                await asyncio.sleep(0.05)


def _processes(words: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().replace(b"\0", b" ").strip() == words.encode():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


async def test_repeated_call_ids_do_not_mix_up_results(tmp_path: Path) -> None:
    turns = [
        Reply(tool_calls=[ToolCall("write_file", {"path": f"{n}.txt", "content": str(n)}, "call_0")])
        for n in range(3)
    ]
    async with running(tmp_path, by_phase(turns)) as (runtime, _):
        run, events = await to_the_end(runtime, await data_request(runtime))
        assert [await runtime.workspace(run.session_id).read_text(f"{n}.txt") for n in range(3)] == ["0", "1", "2"]
    started = [event.call_id for event in events if isinstance(event, ev.ToolStarted)]
    assert len(set(started)) == 3


async def test_without_a_sandbox_nothing_runs(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    async with running(tmp_path, by_phase([code("print(1)")]), sandbox_python=nothing) as (runtime, _):
        run, events = await to_the_end(runtime, await data_request(runtime))
    assert run.state == "failed"
    assert str(nothing) in events[-1].model_dump_json()
    assert not [event for event in events if event.type == "tool.output"]


async def test_the_trace_is_complete(tmp_path: Path) -> None:
    long = "x" * 100_000
    async with running(tmp_path, lambda _: Reply(long, chunk_size=5000)) as (runtime, _):
        run, _ = await to_the_end(runtime, RunRequest(goal="hello"))
        directory = await runtime.trace_path(run.run_id, owner=None)
    records = [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]
    assert [record["event_type"] for record in records] == ["llm_call", "episode_end"]
    assert records[0]["response"]["data"]["content"] in (long, [{"type": "text", "text": long, "index": 0}])
    assert records[0]["messages"][-1]["data"]["content"] == "hello"
    assert json.loads((directory / "session.json").read_text())["state"] == "finished"


async def test_bad_requests_leave_nothing_behind(tmp_path: Path) -> None:
    async with running(tmp_path, lambda _: Reply("hi")) as (runtime, _):
        session = await runtime.create_session(owner="local")
        with pytest.raises(NotFound):
            await runtime.submit(
                RunRequest(goal="x", session_id=session.session_id, files=["uploads/none.csv"]), owner="local"
            )
        with pytest.raises(NotFound):
            await runtime.submit(RunRequest(goal="x", session_id=session.session_id), owner="other")
        assert await runtime.list_runs(owner=None) == []
        run, _ = await to_the_end(runtime, RunRequest(goal="hello"))
        with pytest.raises(Conflict):
            await runtime.resume(run.run_id, owner=None)


async def test_a_failed_run_can_be_resumed_from_its_last_step(tmp_path: Path) -> None:
    turns = [
        Reply(tool_calls=[ToolCall("write_file", {"path": "once.txt", "content": "1"})]),
        Reply(error=Failure(400, "not now")),
        Reply("Now it is done."),
    ]
    async with running(tmp_path, by_phase(turns)) as (runtime, _):
        run, _ = await to_the_end(runtime, await data_request(runtime))
        assert run.state == "failed"
        await runtime.resume(run.run_id, owner=None)
        events = [event async for event in runtime.follow(run.run_id, owner=None)]
        run = await runtime.get_run(run.run_id, owner=None)
    assert run.state == "finished"
    assert sum(event.type == "tool.started" for event in events) == 1
    assert sum(event.type == "run.phase" and event.phase == "plan" for event in events) == 1
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


async def test_going_on_after_a_spent_budget_is_a_new_budget(tmp_path: Path) -> None:
    turns = [
        Reply(tool_calls=[ToolCall("write_file", {"path": f"{n}.txt", "content": "1"}, f"call_{n}")])
        for n in range(3)
    ]
    async with running(tmp_path, by_phase(turns)) as (runtime, _):
        run, _ = await to_the_end(runtime, await data_request(runtime, budget=Budget(steps=4)))
        assert run.state == "budget_spent"
        await runtime.resume(run.run_id, owner=None)
        events = [event async for event in runtime.follow(run.run_id, owner=None)]
        run = await runtime.get_run(run.run_id, owner=None)
    assert run.state == "finished"
    assert sum(event.type == "tool.started" for event in events) == 3
