"""Sandboxes of the local provider through pauses, crashes, deadlines, quotas and restarts of their host process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrion.core.errors import Conflict, NotFound, OrchestrionError, QuotaExceeded, SandboxGone
from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandbox, Sandboxes, SandboxSpec

SES = "ses_test"
SOON = 30
PROXY_REQUEST = (
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', 3128); "
    "c.request('GET', 'http://example.com/'); print(c.getresponse().status)"
)


class Clock:
    """The time, which a test may turn on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def boxes(sandboxes: Sandboxes, clock: Clock, tmp_path: Path) -> Any:
    """Sandboxes whose time the test turns on, in the data directory of `sandboxes`."""
    made = Sandboxes(Settings(home=tmp_path / "home", sandbox_max_per_owner=3), clock=clock)
    yield made
    await made.aclose()


async def shown(sandbox: Sandbox, code: str) -> str:
    result = await sandbox.run_code(code)
    return result.error.name if result.error else result.results[-1].data


def daemon_of(home: Path, sandbox: Sandbox) -> int:
    """The host's pid of a sandbox's process 1."""
    return int(json.loads((home / "sandboxes" / sandbox.id / "sandbox.json").read_text())["pid"])


async def test_an_idle_pause_keeps_variables_and_stops_the_clock_inside(
    boxes: Sandboxes, clock: Clock, workspace: Path
) -> None:
    made = await boxes.acquire(SES, workspace)
    await made.sandbox.run_code("import threading, time\nn = 0\nx = 41")
    await made.sandbox.run_code(
        "def count():\n    global n\n    while True:\n        n += 1\n        time.sleep(0.01)\n"
        "threading.Thread(target=count, daemon=True).start()"
    )
    clock.ahead += 121
    await boxes._keeper.look()
    assert (await boxes.held(made.sandbox.id)).info.state == "paused"
    assert await boxes.find(SES) is None
    assert not await made.sandbox.ping()
    again = await boxes.acquire(SES, workspace)
    assert (again.how, again.sandbox.id) == ("resumed", made.sandbox.id)
    assert await shown(again.sandbox, "x + 1") == "42"
    before = int(await shown(again.sandbox, "n"))
    async with asyncio.timeout(SOON):
        while int(await shown(again.sandbox, "n")) <= before:  # its threads go on
            await asyncio.sleep(0.02)


async def test_in_use_it_is_not_paused(boxes: Sandboxes, clock: Clock, workspace: Path) -> None:
    made = await boxes.acquire(SES, workspace)
    with boxes.hold(made.sandbox.id):
        clock.ahead += 10_000
        await boxes._keeper.look()
        assert await made.sandbox.ping()


async def test_long_unused_its_files_outlive_its_processes(boxes: Sandboxes, clock: Clock, workspace: Path) -> None:
    made = await boxes.acquire(SES, workspace)
    await made.sandbox.run_code("x = 1")
    await made.sandbox.files.write("/home/user/own.txt", b"kept")
    await made.sandbox.files.write("/workspace/shared.txt", b"shared")
    clock.ahead += 601
    await boxes._keeper.look()
    held = await boxes.held(made.sandbox.id)
    assert (held.info.state, held.info.memory) == ("paused", False)
    again = await boxes.acquire(SES, workspace)
    assert (again.how, again.sandbox.id, again.lost) == ("restored", made.sandbox.id, "")
    assert await again.sandbox.files.read_bytes("/home/user/own.txt") == b"kept"
    assert await shown(again.sandbox, "x") == "NameError"
    assert (workspace / "shared.txt").read_bytes() == b"shared"


async def test_after_a_crash_it_is_restored_on_its_files(boxes: Sandboxes, workspace: Path, tmp_path: Path) -> None:
    made = await boxes.acquire(SES, workspace)
    await made.sandbox.run_code("x = 1")
    await made.sandbox.files.write("/home/user/own.txt", b"kept")
    os.kill(daemon_of(tmp_path / "home", made.sandbox), signal.SIGKILL)
    async with asyncio.timeout(SOON):
        while await made.sandbox.ping():
            await asyncio.sleep(0.02)
    with pytest.raises(SandboxGone):
        await made.sandbox.run_command("true")
    again = await boxes.acquire(SES, workspace)
    assert (again.how, again.sandbox.id, again.lost) == ("restored", made.sandbox.id, "")
    assert await again.sandbox.files.read_bytes("/home/user/own.txt") == b"kept"
    assert await shown(again.sandbox, "x") == "NameError"


async def test_one_that_dies_while_it_is_paused_is_restored(
    boxes: Sandboxes, workspace: Path, tmp_path: Path
) -> None:
    made = await boxes.acquire(SES, workspace)
    pid = daemon_of(tmp_path / "home", made.sandbox)
    await boxes.pause(made.sandbox.id)
    os.kill(pid, signal.SIGKILL)
    again = await boxes.acquire(SES, workspace)
    assert (again.how, again.sandbox.id, again.lost) == ("restored", made.sandbox.id, "")
    assert await shown(again.sandbox, "1") == "1"


OTHER = """
import asyncio, sys
from pathlib import Path
from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandboxes

async def main(home, workspace, code):
    boxes = Sandboxes(Settings(home=Path(home)))
    acquired = await boxes.acquire("ses_test", Path(workspace))
    result = await acquired.sandbox.run_code(code)
    shown = result.results[-1].data if result.results else "-"
    print(acquired.how, acquired.sandbox.id, shown, flush=True)
    if "die" in sys.argv:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    await boxes.aclose()

asyncio.run(main(*sys.argv[1:4]))
"""


async def another_process(home: Path, workspace: Path, code: str, *more: str) -> list[str]:
    """Acquire the session's sandbox in a process of its own, and run a cell there."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", OTHER, home, workspace, code, *more],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("end", ["", "die"])
async def test_a_restart_of_the_host_process_finds_it_again(
    boxes: Sandboxes, workspace: Path, tmp_path: Path, end: str
) -> None:
    home = tmp_path / "home"
    how, made, _ = await another_process(home, workspace, "x = 41", end)
    assert how == "created"
    assert await another_process(home, workspace, "x + 1", end) == ["reused", made, "42"]
    acquired = await boxes.acquire(SES, workspace)
    assert (acquired.how, acquired.sandbox.id) == ("reused", made)
    await boxes.pause(made)
    assert await another_process(home, workspace, "x + 2", end) == ["resumed", made, "43"]


async def test_two_processes_at_once_make_one(boxes: Sandboxes, workspace: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    acquired = await asyncio.gather(
        boxes.acquire(SES, workspace),
        another_process(home, workspace, "1"),
        another_process(home, workspace, "2"),
    )
    first, *others = acquired
    assert {other[1] for other in others} == {first.sandbox.id}
    assert sorted([first.how, *(other[0] for other in others)]) == ["created", "reused", "reused"]


async def test_its_time_ends_it_whoever_keeps_it(sandboxes: Sandboxes, boxes: Sandboxes, clock: Clock) -> None:
    killed = await boxes.create(SandboxSpec(), seconds=60)
    paused = await boxes.create(SandboxSpec(), seconds=60, on_timeout="pause")
    await paused.run_code("x = 1")
    clock.ahead += 61
    await boxes._keeper.look()
    with pytest.raises(NotFound):
        await sandboxes.open(killed.id)
    with pytest.raises(Conflict):
        await sandboxes.open(paused.id)
    assert not await killed.ping()
    assert await shown(await sandboxes.resume(paused.id), "x") == "1"


async def test_a_keeper_ends_in_time(sandboxes: Sandboxes, tmp_path: Path) -> None:
    async with Sandboxes(Settings(home=tmp_path / "home")) as kept:
        made = await sandboxes.create(SandboxSpec(), seconds=1)
        async with asyncio.timeout(SOON):
            while await made.ping():
                await asyncio.sleep(0.05)
        with pytest.raises(NotFound):
            await kept.held(made.id)


async def test_a_quota_pauses_the_idle_and_refuses_the_rest(boxes: Sandboxes, tmp_path: Path) -> None:
    async def acquire(name: str) -> Sandbox:
        root = tmp_path / "home" / "workspaces" / name
        root.mkdir(parents=True)
        return (await boxes.acquire(name, root, owner="ann")).sandbox

    first, second = await acquire("ses_1"), await acquire("ses_2")
    plain = await boxes.create(SandboxSpec(owner="ann"))
    with boxes.hold(second.id):
        third = await acquire("ses_3")
        assert not await first.ping()
        assert await second.ping()
        with boxes.hold(third.id), pytest.raises(QuotaExceeded):
            await boxes.create(SandboxSpec(owner="ann"))
    await boxes.create(SandboxSpec(owner="bob"))
    await boxes.remove(plain.id)
    assert await (await boxes.resume(first.id)).ping()


async def test_a_fork_and_a_snapshot_have_the_files(boxes: Sandboxes) -> None:
    made = await boxes.create(SandboxSpec(owner="ann"))
    await made.files.write("/home/user/a", b"1")
    [copy] = await boxes.fork(made.id)
    assert not isinstance(copy, OrchestrionError)
    await copy.files.write("/home/user/a", b"2")
    assert await made.files.read_bytes("/home/user/a") == b"1"
    kept = await boxes.snapshot(made.id, "mine")
    again = await boxes.create(SandboxSpec(owner="ann", template=kept.id))
    assert await again.files.read_bytes("/home/user/a") == b"1"
    await boxes.remove_snapshot(kept.id)


async def test_what_a_session_leaves_is_gone_with_it(boxes: Sandboxes, workspace: Path, tmp_path: Path) -> None:
    made = await boxes.acquire(SES, workspace)
    await boxes.close(SES)
    assert not await made.sandbox.ping()
    assert not (tmp_path / "home" / "sandboxes" / made.sandbox.id).exists()
    assert not list((tmp_path / "home" / "held").glob("*.json"))


async def test_the_way_out_is_there_again_after_a_restart(boxes: Sandboxes, workspace: Path, tmp_path: Path) -> None:
    ask = f'python3 -c "{PROXY_REQUEST}"'
    await another_process(tmp_path / "home", workspace, "x = 1", "die")
    acquired = await boxes.acquire(SES, workspace)
    answer = await acquired.sandbox.run_command(ask)
    assert answer.stdout.strip() == "403", answer
