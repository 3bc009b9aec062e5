"""The embedded store on real files."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrion.core.errors import NotFound, StoreError
from orchestrion.core.events import Event, MessageDelta, RunFailed, RunFinished, RunResumed, ToolStarted
from orchestrion.store.database import Database, runs
from orchestrion.store.embedded import Store, open_embedded
from orchestrion.store.models import Run, RunRequest, Session


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_embedded(tmp_path) as opened:
        yield opened


def delta(run_id: str, text: str) -> MessageDelta:
    return MessageDelta(run_id=run_id, message_id="m", text=text)


async def collect(store: Store, run_id: str, after: int = 0) -> list[Event]:
    return [event async for event in store.journal.follow(run_id, after=after)]


async def test_numbers_have_no_gap_under_contention(store: Store) -> None:
    async def write(run_id: str, writer: int) -> None:
        for n in range(40):
            await store.journal.append(delta(run_id, f"{writer}-{n}"))

    await asyncio.gather(*(write(f"run_{writer % 3}", writer) for writer in range(9)))
    for run_id in ("run_0", "run_1", "run_2"):
        events = await store.journal.read(run_id)
        assert [event.seq for event in events] == list(range(1, 121))
        for writer in range(int(run_id[-1]), 9, 3):
            own = [
                event.text
                for event in events
                if isinstance(event, MessageDelta) and event.text.startswith(f"{writer}-")
            ]
            assert own == [f"{writer}-{n}" for n in range(40)]


async def test_ten_followers_that_come_and_go_miss_nothing(store: Store) -> None:
    chance = random.Random(7)

    async def follower(seed: int) -> list[int]:
        own, seen = random.Random(seed), []
        while True:
            stop = own.randint(1, 60)
            async for event in store.journal.follow("run_x", after=seen[-1] if seen else 0):
                seen.append(event.seq)
                if event.terminal:
                    return seen
                stop -= 1
                if not stop:
                    break
            await asyncio.sleep(own.random() / 200)

    followers = [asyncio.create_task(follower(n)) for n in range(10)]
    for n in range(900):
        await store.journal.append(delta("run_x", str(n)))
        if not n % 50:
            await asyncio.sleep(chance.random() / 100)
    await store.journal.append(RunFinished(run_id="run_x", answer=""))
    async with asyncio.timeout(30):
        for seen in await asyncio.gather(*followers):
            assert seen == list(range(1, 902))


async def test_an_append_outlives_its_caller(store: Store) -> None:
    async def caller() -> None:
        await store.journal.append(delta("run_x", "kept"))

    task = asyncio.create_task(caller())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.journal.append(RunFinished(run_id="run_x", answer=""))
    assert [event.type for event in await collect(store, "run_x")] == ["message.delta", "run.finished"]


async def test_halves_of_letters_are_kept_as_question_marks(store: Store) -> None:
    [event] = await store.journal.append(
        ToolStarted(run_id="run_x", call_id="c", name="n", args={"\ud83d": ["a\udc00", 1]})
    )
    assert isinstance(event, ToolStarted)
    assert event.args == {"?": ["a?", 1]}
    assert await store.journal.read("run_x") == [event]


async def test_another_process_is_followed(store: Store, tmp_path: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from orchestrion.core.events import MessageDelta, RunFinished
from orchestrion.store.embedded import open_embedded
async def main():
    async with open_embedded(Path(sys.argv[1])) as store:
        for n in range(20):
            await store.journal.append(MessageDelta(run_id="run_x", message_id="m", text=str(n)))
        await store.journal.append(RunFinished(run_id="run_x", answer=""))
asyncio.run(main())
"""
    await store.journal.append(delta("run_x", "mine"))
    reading = asyncio.create_task(collect(store, "run_x"))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(tmp_path))
    async with asyncio.timeout(30):
        await process.wait()
        assert [event.seq for event in await reading] == list(range(1, 23))


async def test_a_terminal_event_that_was_resumed_from_is_not_the_end(store: Store) -> None:
    await store.journal.append(
        RunFailed(run_id="run_x", code="x", error="x"),
        RunResumed(run_id="run_x", worker="w", reason="r"),
        RunFinished(run_id="run_x", answer=""),
    )
    assert len(await collect(store, "run_x")) == 3


async def test_kill_9_loses_no_event_that_was_appended(tmp_path: Path) -> None:
    code = """
import asyncio, os, sys
from pathlib import Path
from orchestrion.core.events import MessageDelta
from orchestrion.store.embedded import open_embedded
async def main():
    async with open_embedded(Path(sys.argv[1])) as store:
        for n in range(100000):
            [event] = await store.journal.append(MessageDelta(run_id="run_x", message_id="m", text=str(n)))
            os.write(1, f"{event.seq}\\n".encode())
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout
    for _ in range(200):
        process.stdout.readline()
    process.kill()
    shown = process.stdout.read().splitlines()
    process.wait()
    last = int(shown[-1]) if shown and shown[-1] else 200
    async with open_embedded(tmp_path) as store:
        kept = await store.journal.read("run_x", limit=100_000)
    assert [event.seq for event in kept] == list(range(1, len(kept) + 1))
    assert len(kept) >= last


async def test_one_failing_write_does_not_take_others_along(store: Store, tmp_path: Path) -> None:
    database = Database(tmp_path / "orchestrion.db")

    def fail(_: object) -> None:
        raise ValueError("mine alone")

    good = database.write(lambda connection: connection.execute(runs.select()).all())
    bad = database.write(fail)
    results = await asyncio.gather(good, bad, return_exceptions=True)
    assert results[0] == []
    assert isinstance(results[1], ValueError)
    await database.close()


async def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "orchestrion.db") as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match="newer version"):
        async with open_embedded(tmp_path):
            pass


async def test_owners_see_their_own(store: Store) -> None:
    now = datetime.now(UTC)
    await store.records.add_session(Session(session_id="s", title="", owner="a", created_at=now, updated_at=now))
    request = RunRequest(goal="x")
    await store.records.add_run(Run(run_id="r", session_id="s", state="queued", request=request, created_at=now))
    assert (await store.records.run("r", "a")).run_id == "r"
    assert await store.records.runs("b") == []
    for look in (store.records.run("r", "b"), store.records.session("s", "b")):
        with pytest.raises(NotFound):
            await look


async def test_a_run_is_claimed_once(store: Store) -> None:
    now = datetime.now(UTC)
    run = Run(run_id="r", session_id="s", state="queued", request=RunRequest(goal="x"), worker="dead", created_at=now)
    await store.records.add_run(run)
    claims = await asyncio.gather(*(store.records.claim_run("r", f"w{n}", "dead") for n in range(8)))
    assert sum(claims) == 1
    claimer = f"w{claims.index(True)}"
    assert (await store.records.run("r", None)).worker == claimer
    assert [orphan.worker for orphan in await store.records.orphans("me")] == [claimer]


async def test_blobs_are_kept_once(store: Store) -> None:
    first, second, third = await store.blobs.put("r", [{"a": 1, "b": 2}, {"b": 2, "a": 1}, "other"])
    assert first == second != third
    assert await store.blobs.get("r", [first, third, "missing"]) == {first: {"a": 1, "b": 2}, third: "other"}


async def test_followers_are_told_when_nothing_more_can_be_kept(store: Store) -> None:
    await store.journal.append(delta("run_x", "seen"))
    seen: list[Event] = []

    async def follow() -> None:
        async for batch in store.journal.follow_batches("run_x"):
            seen.extend(batch)

    task = asyncio.create_task(follow())
    while not seen:
        await asyncio.sleep(0.01)
    store.journal.break_off("run_x", StoreError("The disk is full."))
    async with asyncio.timeout(5):
        with pytest.raises(StoreError, match="full"):
            await task
    await store.journal.append(RunFinished(run_id="run_x", answer=""))
    assert len(await collect(store, "run_x")) == 2
