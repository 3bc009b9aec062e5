"""Runs that meet: in one session, at their end, on a full disk, and between processes."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from runtime_support import CSV, running, settings_for, to_the_end, types, upload

from orchestrion.core import events as ev
from orchestrion.core.errors import Conflict, StoreError
from orchestrion.runtime import Runtime
from orchestrion.runtime.lease import WorkerLease
from orchestrion.runtime.turns import SessionTurns
from orchestrion.store.checkpoints import SqliteCheckpoints
from orchestrion.store.database import Database
from orchestrion.store.journal import SqliteJournal
from orchestrion.store.models import Run, RunRequest
from orchestrion.testing import Failure, Reply, Request, StandIn, ToolCall


async def end_of(runtime: Runtime, run: Run) -> tuple[Run, list[ev.Event]]:
    async with asyncio.timeout(30):
        events = [event async for event in runtime.follow(run.run_id, owner=None)]
    return await runtime.get_run(run.run_id, owner=None), events


async def table_goal(runtime: Runtime) -> RunRequest:
    session = await runtime.create_session(owner="local")
    path = await upload(runtime, session.session_id, "units.csv", CSV.encode())
    return RunRequest(goal="Analyse this table", session_id=session.session_id, files=[path])


def spoken(words: str = "Spoken.") -> Any:
    def respond(request: Request) -> Reply:
        return Reply("1. Look" if "planner" in request.system else words)

    return respond


def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """A disk that can be filled: while it is, nothing is committed."""
    state, commit = {"full": False}, Database._commit

    def committing(self: Database, group: list[Any]) -> None:
        if not state["full"]:
            return commit(self, group)
        for write in group:
            write.error = StoreError("The disk is full.")
        return None

    monkeypatch.setattr(Database, "_commit", committing)
    return state


async def test_runs_of_a_session_go_one_after_the_other(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def respond(request: Request) -> Reply:
        if request.last_text.endswith("first"):
            await gate.wait()
        return Reply(f"{len(request.messages)} messages")

    async with running(tmp_path, respond) as (runtime, _):
        session = (await runtime.create_session(owner="local")).session_id
        first = await runtime.submit(RunRequest(goal="first", session_id=session), owner="local")
        second = await runtime.submit(RunRequest(goal="second", session_id=session), owner="local")
        elsewhere, _ = await to_the_end(runtime, RunRequest(goal="elsewhere"))
        assert elsewhere.state == "finished"
        async for event in runtime.follow(second.run_id, owner=None):
            if isinstance(event, ev.RunNotice):
                assert event.code == "waiting_for_turn"
                break
        assert (await runtime.get_run(second.run_id, owner=None)).state == "queued"
        gate.set()
        assert (await end_of(runtime, first))[0].answer == "1 messages"
        assert (await end_of(runtime, second))[0].answer == "3 messages"
    assert not list((tmp_path / "turns").iterdir())


async def test_a_run_that_waits_its_turn_can_be_stopped(tmp_path: Path) -> None:
    async with running(tmp_path, lambda _: Reply("word " * 5000, delay=0.05)) as (runtime, _):
        session = (await runtime.create_session(owner="local")).session_id
        first = await runtime.submit(RunRequest(goal="first", session_id=session), owner="local")
        second = await runtime.submit(RunRequest(goal="second", session_id=session), owner="local")
        assert (await runtime.cancel(second.run_id, owner=None)).state == "cancelled"
        assert not (await runtime.get_run(first.run_id, owner=None)).ended
        assert (await runtime.cancel(first.run_id, owner=None)).state == "cancelled"


async def test_turns_hold_between_processes(tmp_path: Path) -> None:
    mine, other, waited = SessionTurns(tmp_path), SessionTurns(tmp_path), asyncio.Event()

    async def told() -> None:
        waited.set()

    async def take() -> str:
        async with other.turn("ses_x", told):
            return "taken"

    async with mine.turn("ses_x", told):
        assert not waited.is_set()
        taking = asyncio.create_task(take())
        async with asyncio.timeout(10):
            await waited.wait()
        assert not taking.done()
    async with asyncio.timeout(10):
        assert await taking == "taken"


async def test_resumed_right_at_its_end_a_run_is_carried_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal event is out, the record is not yet let go of: that is when a quick user resumes."""
    replies = [Reply(error=Failure(400, "not now"))]
    append = SqliteJournal.append

    async def slow_after_the_end(self: SqliteJournal, *batch: ev.EventBase) -> list[ev.Event]:
        appended = await append(self, *batch)
        if any(event.terminal for event in batch):
            await asyncio.sleep(0.3)
        return appended

    monkeypatch.setattr(SqliteJournal, "append", slow_after_the_end)
    async with running(tmp_path, lambda _: replies.pop() if replies else Reply("Now.")) as (runtime, server):
        run = await runtime.submit(RunRequest(goal="hello"), owner="local")
        assert (await end_of(runtime, run))[0].state == "failed"
        tries = await asyncio.gather(
            *(runtime.resume(run.run_id, owner=None) for _ in range(3)), return_exceptions=True
        )
        assert sum(isinstance(attempt, Conflict) for attempt in tries) == 2
        run, events = await end_of(runtime, run)
        assert len(server.requests) == 2
        assert await runtime._worker.settled(run.run_id)
        run = await runtime.get_run(run.run_id, owner=None)
    assert (run.state, run.answer, run.worker) == ("finished", "Now.", None)
    assert types(events).count("run.resumed") == 1


async def test_a_claimed_run_whose_new_worker_dies_is_adopted_again(tmp_path: Path) -> None:
    async with running(tmp_path, lambda _: Reply(error=Failure(400, "no"))) as (runtime, _):
        run, _ = await to_the_end(runtime, RunRequest(goal="hello"))
        await runtime._store.records.update_run(run.model_copy(update={"state": "running", "worker": "wkr_a"}))
        assert await runtime._store.records.claim_run(run.run_id, "wkr_b", "wkr_a")
    async with (
        asyncio.timeout(30),
        StandIn(lambda _: Reply("Here.")) as server,
        Runtime(settings_for(tmp_path, server), adopt=True) as adopting,
    ):
        while (await adopting.get_run(run.run_id, owner=None)).state != "finished":
            await asyncio.sleep(0.05)


async def once_kept(runtime: Runtime, run: Run) -> tuple[Run, list[ev.Event]]:
    """Follow a run to its end, as a reader does who comes back until its end can be kept."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await end_of(runtime, run)
            except StoreError:
                await asyncio.sleep(0.05)


async def test_a_full_disk_ends_a_run_once_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = disk(monkeypatch)

    def respond(_: Request) -> Reply:
        state["full"] = True
        return Reply("This can't be kept.")

    async with running(tmp_path, respond) as (runtime, _):
        run = await runtime.submit(RunRequest(goal="hello"), owner="local")
        async with asyncio.timeout(20):
            while run.run_id not in runtime._worker._unkept:
                await asyncio.sleep(0.02)
        with pytest.raises(StoreError):
            await runtime.submit(RunRequest(goal="no room for this"), owner="local")
        with pytest.raises(StoreError, match="full"):  # its readers are told, and need not wait for ever
            await end_of(runtime, run)
        state["full"] = False
        run, events = await once_kept(runtime, run)
        assert [other.run_id for other in await runtime.list_runs(owner=None)] == [run.run_id]
    assert run.state == "failed"
    assert isinstance(events[-1], ev.RunFailed)
    assert events[-1].code == "store_error"


async def test_a_trace_that_fails_changes_no_ending(tmp_path: Path) -> None:
    async with running(tmp_path, lambda _: Reply("Hello.")) as (runtime, _):
        shutil.rmtree(tmp_path / "traces", ignore_errors=True)
        (tmp_path / "traces").write_text("in the way")
        run = await runtime.submit(RunRequest(goal="hello"), owner="local")
        await end_of(runtime, run)
        assert await runtime._worker.settled(run.run_id)
        run, events = await end_of(runtime, run)
    assert run.state == "finished"
    assert sum(event.terminal for event in events) == 1


async def test_what_a_stopped_run_used_is_kept(tmp_path: Path) -> None:
    def respond(request: Request) -> Reply:
        return Reply("1. Look") if "planner" in request.system else Reply("word " * 5000, delay=0.05)

    async with running(tmp_path, respond) as (runtime, _):
        run = await runtime.submit(await table_goal(runtime), owner="local")
        async for event in runtime.follow(run.run_id, owner=None):
            if isinstance(event, ev.MessageDelta) and event.phase == "execute":
                break
        run = await runtime.cancel(run.run_id, owner=None)
    assert (run.state, run.target) == ("cancelled", "data")
    assert run.usage.input_tokens > 0


async def test_an_older_task_does_not_go_on_with_a_later_ones_papers(tmp_path: Path) -> None:
    turns = [Reply(error=Failure(400, "not now"))]

    def respond(request: Request) -> Reply:
        if "planner" in request.system:
            return Reply("1. Look")
        return turns.pop() if turns else Reply("The later one.")

    async with running(tmp_path, respond) as (runtime, _):
        request = await table_goal(runtime)
        first, _ = await to_the_end(runtime, request)
        second, _ = await to_the_end(runtime, request)
        assert (first.state, second.state) == ("failed", "finished")
        await runtime.resume(first.run_id, owner=None)
        first, _ = await end_of(runtime, first)
        report = await runtime.workspace(second.session_id).read_text("report.md")
    assert first.state == "failed"
    assert "later task" in first.error
    assert "The later one." in report


async def test_a_session_is_not_removed_under_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, lambda _: Reply("Hello.")) as (runtime, _):
        run, _ = await to_the_end(runtime, RunRequest(goal="hello"))
        lease = WorkerLease(tmp_path / "workers")
        held = run.model_copy(update={"state": "running", "worker": lease.worker, "ended_at": None})
        await runtime._store.records.update_run(held)
        await runtime._store.journal.append(ev.RunResumed(run_id=run.run_id, worker=lease.worker, reason="elsewhere"))
        monkeypatch.setattr("orchestrion.runtime.runtime._SETTLE", 0.1)
        with pytest.raises(Conflict):
            await runtime.delete_session(run.session_id, owner=None)
        assert await runtime.list_runs(owner=None, session_id=run.session_id)
        lease.release()
        await runtime.delete_session(run.session_id, owner=None)
        assert not (tmp_path / "traces" / run.run_id).exists()


async def test_a_step_is_kept_before_its_tools_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    put, append = SqliteCheckpoints.aput, SqliteJournal.append

    async def slow(self: SqliteCheckpoints, *args: Any) -> Any:
        await asyncio.sleep(0.1)
        config = await put(self, *args)
        order.append("kept")
        return config

    async def noting(self: SqliteJournal, *batch: ev.EventBase) -> list[ev.Event]:
        order.extend("started" for event in batch if isinstance(event, ev.ToolStarted))
        return await append(self, *batch)

    monkeypatch.setattr(SqliteCheckpoints, "aput", slow)
    monkeypatch.setattr(SqliteJournal, "append", noting)
    turns = [Reply(tool_calls=[ToolCall("write_file", {"path": "a.txt", "content": "1"})])]

    def respond(request: Request) -> Reply:
        return Reply("1. Look") if "planner" in request.system else turns.pop() if turns else Reply("Done.")

    async with running(tmp_path, respond) as (runtime, _):
        await to_the_end(runtime, await table_goal(runtime))
    assert order[: order.index("started")].count("kept") >= 3  # the input, the start, the model's step


async def test_a_cancelled_checkpoint_does_not_lock_the_file(tmp_path: Path) -> None:
    async with running(tmp_path, lambda _: Reply("Hello.")) as (runtime, _):
        connection = runtime._store.checkpoints.conn  # type: ignore[attr-defined]
        await connection.execute(
            "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id) VALUES ('t', '', 'c')"
        )
        with sqlite3.connect(tmp_path / "orchestrion.db", timeout=0.1) as other:
            other.execute("DELETE FROM checkpoints")


async def test_a_planted_folder_does_not_hide_why_a_run_ended(tmp_path: Path) -> None:
    home = tmp_path / "home"

    def respond(request: Request) -> Reply:
        if "planner" in request.system:
            return Reply("1. Look")
        [workspace] = (home / "workspaces").iterdir()
        (workspace / "report.md").mkdir()
        return Reply(error=Failure(400, "the true reason"))

    async with running(home, respond) as (runtime, _):
        request = await table_goal(runtime)
        run, _ = await to_the_end(runtime, request)
    assert run.state == "failed"
    assert "the true reason" in run.error
