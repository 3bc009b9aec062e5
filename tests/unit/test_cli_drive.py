from __future__ import annotations

import asyncio
import io
import json
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrion.cli.drive import drive
from orchestrion.cli.render import View
from orchestrion.cli.screen import Screen
from orchestrion.cli.sink import JsonSink, ScreenSink, Sink, Writer
from orchestrion.cli.stop import Stop
from orchestrion.core import events as ev
from orchestrion.core.errors import Conflict, RunCancelled
from orchestrion.store.models import Run, RunRequest

STARTED = ev.RunStarted(worker="w")


class ScriptedRuns:
    """A runtime that tells scripted events; the ones after a cancel only once it was asked for."""

    def __init__(self, *script: ev.Event, after_cancel: list[ev.Event] | None = None, state: str = "running") -> None:
        self.script = script
        self.after_cancel = after_cancel
        self.state = state
        self.cancelled = asyncio.Event()

    async def follow(self, run_id: str, *, owner: str | None, after: int = 0) -> AsyncIterator[ev.Event]:
        for event in self.script:
            yield event
        if self.after_cancel is not None:
            await self.cancelled.wait()
            for event in self.after_cancel:
                yield event
            if not self.after_cancel:
                await asyncio.Event().wait()

    async def cancel(self, run_id: str, *, owner: str | None) -> object:
        self.cancelled.set()
        if self.state == "ended":
            raise Conflict("It has ended.")
        return None

    async def get_run(self, run_id: str, *, owner: str | None) -> Run:
        request = RunRequest(goal="x")
        return Run.model_validate(
            {
                "run_id": run_id,
                "session_id": "s",
                "state": self.state,
                "request": request,
                "created_at": datetime.now(UTC),
            }
        )


class Shown(Sink):
    """Keeps what it is given, and may fail or ask to stop."""

    def __init__(self, fail: bool = False) -> None:
        self.events: list[ev.Event] = []
        self.told = 0
        self.fail = fail

    def put(self, event: ev.Event) -> None:
        if self.fail:
            raise BrokenPipeError
        self.events.append(event)

    def stopping(self) -> None:
        self.told += 1

    def tick(self) -> None:
        pass


async def driven(runs: ScriptedRuns, sink: Sink | None = None, stop: Stop | None = None) -> int:
    writer = Writer(sink or Shown())
    stop = stop or Stop()
    stop.notify = writer.stopping
    async with writer.running():
        return await drive(runs, "run_1", writer, stop)


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (ev.RunFinished(answer="a"), 0),
        (ev.RunFailed(code="x", error="no"), 1),
        (ev.RunBudgetSpent(kind="usd", limit=1), 4),
        (ev.RunCancelledEvent(), 130),
    ],
)
async def test_the_terminal_event_gives_the_exit_code(last: ev.Event, code: int) -> None:
    sink = Shown()
    assert await driven(ScriptedRuns(STARTED, last), sink) == code
    assert sink.events == [STARTED, last]


@pytest.mark.parametrize(("state", "code"), [("waiting", 3), ("running", 1), ("finished", 0), ("cancelled", 130)])
async def test_a_stream_that_ends_without_one_goes_by_the_state(
    state: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await driven(ScriptedRuns(STARTED, state=state)) == code
    assert ("waits for an answer" in capsys.readouterr().err) == (state == "waiting")


async def test_stop_cancels_the_run_and_waits_for_its_end() -> None:
    runs, sink, stop = ScriptedRuns(STARTED, after_cancel=[ev.RunCancelledEvent()]), Shown(), Stop()
    task = asyncio.create_task(driven(runs, sink, stop))
    while not sink.events:
        await asyncio.sleep(0.01)
    stop.request()
    assert await task == 130
    assert runs.cancelled.is_set()
    assert sink.told == 1
    assert sink.events[-1].type == "run.cancelled"


async def test_a_run_that_ends_by_itself_meanwhile_has_its_own_code() -> None:
    stop = Stop()
    stop.request()
    runs = ScriptedRuns(STARTED, after_cancel=[ev.RunFinished(answer="a")], state="ended")
    assert await driven(runs, stop=stop) == 0


async def test_a_run_that_does_not_confirm_is_left_and_said_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("orchestrion.cli.drive._STOP_SECONDS", 0.05)
    stop = Stop()
    stop.request()
    assert await driven(ScriptedRuns(STARTED, after_cancel=[]), stop=stop) == 130
    assert "has not confirmed" in capsys.readouterr().err


async def test_when_nobody_reads_any_more_the_run_is_cancelled() -> None:
    runs = ScriptedRuns(STARTED, after_cancel=[])
    with pytest.raises(BrokenPipeError):
        await driven(runs, Shown(fail=True))
    assert runs.cancelled.is_set()


async def test_the_second_request_leaves_at_once_but_an_echo_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[bool] = []
    now = [10.0]
    monkeypatch.setattr("orchestrion.cli.stop.time.monotonic", lambda: now[0])
    stop = Stop(leave=lambda: left.append(True))
    stop.request()
    stop.request()
    assert not left
    now[0] += 1
    stop.request()
    assert left == [True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signals_ask_to_stop(number: signal.Signals) -> None:
    kept = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored if the tests run under `nohup`
    stop = Stop()
    stop.listen()
    signal.raise_signal(number)
    await asyncio.wait_for(stop.wait(), 5)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().remove_signal_handler(each)
    signal.signal(signal.SIGHUP, kept)


async def test_guarded_work_is_given_up_and_cleans_up() -> None:
    cleaned: list[bool] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    stop = Stop()
    task = asyncio.create_task(stop.guard(work()))
    await asyncio.sleep(0)
    stop.request()
    with pytest.raises(RunCancelled):
        await task
    assert cleaned == [True]


async def test_guarded_work_gives_its_result_or_its_error() -> None:
    async def good() -> int:
        return 7

    async def bad() -> int:
        raise Conflict("no")

    assert await Stop().guard(good()) == 7
    with pytest.raises(Conflict):
        await Stop().guard(bad())


async def test_json_is_one_event_a_line(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out := io.BytesIO(), encoding="ascii"))
    events = [ev.RunCreated(run_id="r", seq=1, session_id="s", goal="naïve\n数据"), ev.RunFinished(answer="ok")]
    assert await driven(ScriptedRuns(*events), JsonSink()) == 0
    lines = out.getvalue().decode().splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["run.created", "run.finished"]
    assert json.loads(lines[0])["session_id"] == "s"
    assert ev.event_adapter.validate_json(lines[0]) == events[0]


async def test_people_are_told_that_it_stops() -> None:
    out = io.StringIO()
    sink = ScreenSink(View(Screen(out, terminal=False), Path("/w")))
    stop = Stop()
    stop.request()
    writer = Writer(sink)
    writer.stopping()
    async with writer.running():
        assert await drive(ScriptedRuns(after_cancel=[ev.RunCancelledEvent()]), "run_1", writer, stop) == 130
    assert out.getvalue().splitlines() == ["Stopping… (Ctrl-C again leaves at once)", "Stopped."]
