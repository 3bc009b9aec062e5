"""Planning, looking back, the meter, the ledger, partial reports, the lease."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langchain.agents.middleware.types import ModelRequest, ModelResponse, ToolCallRequest
from langchain_core.messages import AIMessage, ToolMessage

from orchestrion.core import events as ev
from orchestrion.core.errors import BudgetSpent
from orchestrion.core.settings import Settings
from orchestrion.middleware.context import AgentContext
from orchestrion.middleware.effects import EffectsLedger
from orchestrion.middleware.ledger import Ledger
from orchestrion.middleware.meter import Meter
from orchestrion.middleware.tool_errors import ToolErrors
from orchestrion.middleware.unique_calls import UniqueCalls
from orchestrion.models.playbook import PlaybookModel
from orchestrion.runtime.lease import WorkerLease
from orchestrion.runtime.partial import partial_report
from orchestrion.runtime.past import Past
from orchestrion.runtime.planning import steps_of
from orchestrion.sandbox import Rich
from orchestrion.store.models import Budget
from orchestrion.store.workspace import Workspace
from orchestrion.tools.code import _keep_results


def test_steps_are_the_numbered_lines() -> None:
    plan = "I will do it.\n\n1. **Load** the file\n2) Draw\n- an aside\n"
    assert [step.text for step in steps_of(plan, "data")] == ["Load the file", "Draw"]


def test_bullets_serve_where_nothing_is_numbered() -> None:
    assert [step.text for step in steps_of("- [ ] one\n* two", "data")] == ["one", "two"]


def test_a_plan_without_steps_gets_the_usual_ones() -> None:
    assert len(steps_of("I would rather not.", "research")) == 3


def test_the_meter_ends_each_budget() -> None:
    for budget, use in [
        (Budget(tokens=10), ev.Usage(input_tokens=6, output_tokens=4)),
        (Budget(usd=0.5), ev.Usage(usd=0.5)),
    ]:
        meter = Meter(budget)
        meter.check()
        meter.add(use)
        with pytest.raises(BudgetSpent):
            meter.check()


async def test_the_deadline_is_a_budget() -> None:
    meter = Meter(Budget(seconds=0.05))
    with pytest.raises(BudgetSpent) as spent:
        async with meter.deadline():
            await asyncio.sleep(5)
    assert spent.value.kind == "seconds"


async def test_a_timeout_of_its_own_is_no_budget() -> None:
    with pytest.raises(TimeoutError):
        async with Meter(Budget(seconds=60)).deadline():
            raise TimeoutError


PNG = b"\x89PNG\r\n\x1a\n"


def started(call_id: str) -> ev.ToolStarted:
    return ev.ToolStarted(call_id=call_id, name="execute", args={})


def finished(call_id: str, status: str) -> ev.ToolFinished:
    return ev.ToolFinished(call_id=call_id, name="execute", status=status, result="r", seconds=0)  # type: ignore[arg-type]


def test_the_ledger_knows_what_was_cut_off() -> None:
    events = [started("a"), finished("a", "ok"), started("b"), started("c"), finished("c", "cancelled")]
    ledger = Ledger.from_events(events)
    assert set(ledger.finished) == {"a"}
    assert ledger.cut_off == {"b", "c"}


async def test_a_stopped_call_is_not_silently_repeated() -> None:
    ledger = Ledger.from_events([started("a"), finished("a", "cancelled")])
    emitted, context = in_context(ledger)
    answer = await EffectsLedger().awrap_tool_call(tool_call(context, "a"), never)
    assert isinstance(answer, ToolMessage)
    assert "outcome of this call is unknown" in answer.text
    assert [event.type for event in emitted] == ["tool.finished"]


async def test_a_settled_call_is_answered_from_the_ledger_without_an_event() -> None:
    ledger = Ledger.from_events([started("a"), finished("a", "unknown")])
    emitted, context = in_context(ledger)
    answer = await EffectsLedger().awrap_tool_call(tool_call(context, "a"), never)
    assert isinstance(answer, ToolMessage)
    assert (answer.text, answer.status, emitted) == ("r", "error", [])


async def test_a_tool_with_a_bug_does_not_end_the_run() -> None:
    async def buggy(_: ToolCallRequest) -> ToolMessage:
        raise RecursionError("too deep")

    answer = await ToolErrors().awrap_tool_call(tool_call(in_context(Ledger())[1], "a"), buggy)
    assert isinstance(answer, ToolMessage)
    assert "RecursionError: too deep" in answer.text
    assert answer.status == "error"


async def test_a_spent_budget_goes_through_a_tool() -> None:
    async def spent(_: ToolCallRequest) -> ToolMessage:
        raise BudgetSpent("tokens", 1)

    with pytest.raises(BudgetSpent):
        await ToolErrors().awrap_tool_call(tool_call(in_context(Ledger())[1], "a"), spent)


async def test_ids_that_repeat_within_one_answer_are_told_apart() -> None:
    calls = [{"name": "execute", "args": {}, "id": name} for name in ("call_0", "call_0", "call_1")]

    async def answer(_: ModelRequest[AgentContext]) -> ModelResponse[Any]:
        return ModelResponse(result=[AIMessage("", tool_calls=calls)])

    request = ModelRequest(model=PlaybookModel(role="data"), messages=[])
    response = await UniqueCalls().awrap_model_call(request, answer)
    ids = [call["id"] for message in response.result if isinstance(message, AIMessage) for call in message.tool_calls]
    assert ids[::2] == ["call_0", "call_1"]
    assert len(set(ids)) == 3


def test_working_time_is_counted_and_idle_time_is_not() -> None:
    def at(second: int, event: type[ev.EventBase], **values: Any) -> Any:
        return event(ts=datetime.fromtimestamp(second, UTC), **values)

    past = Past.from_events(
        [
            at(0, ev.RunCreated, session_id="s", goal="g"),
            at(50, ev.RunStarted, worker="w"),
            at(60, ev.RunPhase, phase="plan", title="t"),
            at(980, ev.RunResumed, worker="w", reason="r"),
            at(985, ev.RunNotice, code="waiting_for_turn", text="t"),
            at(990, ev.RunStarted, worker="w"),
            at(995, ev.RunPhase, phase="execute", title="t"),
            at(990, ev.RunPhase, phase="execute", title="a clock that was set back"),
        ]
    )
    assert past.seconds == 15
    assert past.worked_until == datetime.fromtimestamp(990, UTC)


async def test_pictures_of_two_calls_get_names_of_their_own(tmp_path: Path) -> None:
    _, context = in_context(Ledger())
    context.workspace = Workspace(tmp_path)
    pictures = [Rich("png", b64encode(data).decode()) for data in (PNG + b"one", PNG + b"two")]
    kept = await asyncio.gather(*(_keep_results(context, "a", [picture]) for picture in pictures))
    assert sorted(path for [path] in kept) == ["charts/figure-1.png", "charts/figure-2.png"]
    assert {(tmp_path / path).read_bytes() for [path] in kept} == {PNG + b"one", PNG + b"two"}


def in_context(ledger: Ledger) -> tuple[list[ev.EventBase], AgentContext]:
    emitted: list[ev.EventBase] = []

    async def append(event: ev.EventBase) -> ev.EventBase:
        emitted.append(event)
        return event

    async def no_sandbox() -> Any:
        raise AssertionError

    context = AgentContext("run", "ses", Workspace(Path("/nowhere")), Settings(), append, no_sandbox, ledger=ledger)
    return emitted, context


def tool_call(context: AgentContext, call_id: str) -> ToolCallRequest:
    runtime: Any = SimpleNamespace(context=context)
    return ToolCallRequest({"name": "execute", "args": {}, "id": call_id}, None, {}, runtime)


async def never(_: ToolCallRequest) -> ToolMessage:
    raise AssertionError("the tool was run")


def test_a_partial_report_says_so_and_keeps_what_was_found() -> None:
    past = Past.from_events(
        [
            ev.PlanUpdated(steps=[ev.PlanStep(text="Load", status="done"), ev.PlanStep(text="Draw")]),
            ev.MessageCompleted(message_id="m", text="It has 3 rows.", phase="execute"),
            ev.ToolFinished(call_id="a", name="execute_code", status="ok", result="```\nfenced", seconds=1),
            ev.ArtifactWritten(file=ev.FileRef(path="charts/a b.png", size=1)),
        ]
    )
    text = partial_report("Look", past, "The budget is spent.")
    assert "**This work is not complete.** The budget is spent." in text
    assert "- [x] Load" in text
    assert "- [ ] Draw" in text
    assert "It has 3 rows." in text
    assert "````text\n```\nfenced\n````" in text
    assert "(charts/a%20b.png)" in text


def test_only_the_agents_own_report_counts() -> None:
    report = ev.FileRef(path="report.md", size=1)
    assert Past.from_events([ev.ArtifactWritten(file=report, title="Findings")]).report_written
    assert not Past.from_events([ev.ArtifactWritten(file=report, title="Partial report")]).report_written


def test_a_dead_process_is_seen_as_dead(tmp_path: Path) -> None:
    mine = WorkerLease(tmp_path)
    code = (
        "import sys; from pathlib import Path; from orchestrion.runtime.lease import WorkerLease;"
        "lease = WorkerLease(Path(sys.argv[1])); print(lease.worker, flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout
    worker = other.stdout.readline().strip()
    assert mine.alive(worker)
    assert mine.alive(mine.worker)
    other.kill()
    other.communicate()
    assert not mine.alive(worker)
    assert not mine.alive(None)
    mine.release()
