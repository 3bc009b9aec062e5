"""What dies in the middle of something: the daemon inside, the process outside, the zygote, the host's disk."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_world import children, eventually, groups_of, pid_of, processes_of, sockets_below

from orchestrion.core.errors import NotFound, SandboxError, SandboxGone, SandboxUnavailable
from orchestrion.sandbox import Sandbox, Sandboxes
from orchestrion.sandbox.local import LocalProvider
from orchestrion.sandbox.protocols import ProcessOutput, SandboxSpec

SES = "ses_test"
# A promise: so soon a caller hears that his sandbox is gone.
PROMPT = 5.0
TREE = "(setsid sleep 7777 &) ; setsid sh -c 'sleep 7777 & exec sleep 7777' & echo begun; sleep 7777"
InTheMiddle = Callable[[Sandbox, asyncio.Event], Coroutine[Any, Any, object]]


async def in_a_command(sandbox: Sandbox, begun: asyncio.Event) -> object:
    async def on_output(_output: object) -> None:
        begun.set()

    return await sandbox.run_command(TREE, on_output=on_output)


async def in_a_cell(sandbox: Sandbox, begun: asyncio.Event) -> object:
    async def on_output(_output: object) -> None:
        begun.set()

    return await sandbox.run_code("print('begun')\nimport time\ntime.sleep(99)", on_output=on_output)


async def in_an_upload(sandbox: Sandbox, begun: asyncio.Event) -> object:
    async def endless() -> AsyncIterator[bytes]:
        for count in range(100_000):
            yield b"x" * 1000
            if count == 100:
                begun.set()
            if count > 100:
                await asyncio.sleep(0.01)

    return await sandbox.files.write("/home/user/up", endless())


async def in_a_download(sandbox: Sandbox, begun: asyncio.Event) -> object:
    await sandbox.run_code("open('/home/user/down', 'wb').truncate(1 << 30)")
    size = 0
    async for piece in sandbox.files.read("/home/user/down"):
        size += len(piece)
        begun.set()
        await asyncio.sleep(0.02)
    return size


async def in_a_terminal(sandbox: Sandbox, begun: asyncio.Event) -> object:
    terminal = await sandbox.processes.start(["sh"], terminal=(80, 24))
    await terminal.send(f"{TREE}\n".encode())
    seen = b""
    async for event in terminal.events():
        if isinstance(event, ProcessOutput):
            seen += event.data
        # The shell may read the line before or after it prompts; what it was sent says `begun;`.
        if b"begun\r\n" in seen:
            begun.set()
    return seen


async def in_a_watch(sandbox: Sandbox, begun: asyncio.Event) -> object:
    async def touch() -> None:
        while not begun.is_set():
            await sandbox.files.write("/home/user/touched", b"again")
            await asyncio.sleep(0.05)

    touching = asyncio.create_task(touch())
    try:
        async for _ in sandbox.files.watch("/home/user"):
            begun.set()
    finally:
        touching.cancel()
    return None


MIDDLES = [in_a_command, in_a_cell, in_an_upload, in_a_download, in_a_terminal, in_a_watch]


async def begin(sandbox: Sandbox, middle: InTheMiddle) -> asyncio.Task[object]:
    """Return a call in its midst."""
    begun = asyncio.Event()
    call = asyncio.create_task(middle(sandbox, begun))
    waiting = asyncio.create_task(begun.wait())
    await asyncio.wait({call, waiting}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    assert begun.is_set(), call
    return call


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def assert_nothing_runs(home: Path, *ids: str) -> None:
    assert processes_of(ids) == {}
    assert [path for path in sockets_below(home) if any(one in path for one in ids)] == []


@pytest.mark.parametrize("middle", MIDDLES)
async def test_a_daemon_that_is_killed(
    sandboxes: Sandboxes, workspace: Path, home: Path, middle: InTheMiddle
) -> None:
    sandbox = (await sandboxes.acquire(SES, workspace)).sandbox
    await sandbox.files.write("/home/user/kept", b"kept")
    await sandbox.files.write("/workspace/shared", b"shared")
    call = await begin(sandbox, middle)
    os.kill(pid_of(home, sandbox.id), signal.SIGKILL)
    async with asyncio.timeout(PROMPT):
        with pytest.raises(SandboxGone):
            await call
    await eventually(lambda: not processes_of([sandbox.id]), PROMPT, "its processes live on")
    with pytest.raises(SandboxGone):
        await sandbox.run_code("1")
    again = await sandboxes.acquire(SES, workspace)
    assert (again.how, again.lost) == ("restored", "")
    assert await again.sandbox.files.read_bytes("/home/user/kept") == b"kept"
    assert await again.sandbox.files.read_bytes("/workspace/shared") == b"shared"
    assert [rich.data for rich in (await again.sandbox.run_code("1 + 1")).results] == ["2"]
    await sandboxes.close_all()
    assert_nothing_runs(home, sandbox.id)
    assert groups_of([sandbox.id]) == []
    assert not (home / "sandboxes" / sandbox.id).exists()


@pytest.mark.parametrize("middle", [in_a_command, in_a_cell, in_a_terminal])
async def test_a_killed_daemon_that_nobody_wants_again_leaves_no_trace(
    sandboxes: Sandboxes, home: Path, middle: InTheMiddle
) -> None:
    sandbox = await sandboxes.create(SandboxSpec())
    call = await begin(sandbox, middle)
    os.kill(pid_of(home, sandbox.id), signal.SIGKILL)
    with pytest.raises(SandboxGone):
        await call
    await sandboxes.remove(sandbox.id)
    assert_nothing_runs(home, sandbox.id)
    assert groups_of([sandbox.id]) == []
    assert not (home / "sandboxes" / sandbox.id).exists()


# A daemon that hangs


# A bare machine has no `pgrep`.
SLEEPERS = "grep -la '[7]777' /proc/[0-9]*/cmdline 2>/dev/null"


async def test_a_daemon_that_hangs(sandboxes: Sandboxes, workspace: Path, home: Path) -> None:
    sandbox = (await sandboxes.acquire(SES, workspace)).sandbox
    await sandbox.files.write("/home/user/kept", b"kept")
    call = await begin(sandbox, in_a_command)
    call.cancel()
    await asyncio.wait({call})
    pid = pid_of(home, sandbox.id)
    os.kill(pid, signal.SIGSTOP)
    try:
        begin_at = time.monotonic()
        assert not await sandbox.ping(1)
        with pytest.raises(SandboxGone):
            await sandbox.run_command("echo never", timeout=1)
        # The command's own time, and the daemon's grace.
        assert time.monotonic() - begin_at < 1 + 1 + 10 + PROMPT
    finally:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGCONT)
    again = await sandboxes.acquire(SES, workspace)
    assert await again.sandbox.files.read_bytes("/home/user/kept") == b"kept"
    assert (await again.sandbox.run_command(f"{SLEEPERS} | wc -l")).stdout == "0\n"


# The host process

HOST = """
import asyncio, sys
from pathlib import Path
from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandboxes

async def main(home, workspace, command):
    boxes = Sandboxes(Settings(home=Path(home)))
    sandbox = (await boxes.acquire("ses_test", Path(workspace))).sandbox
    await sandbox.run_code("x = 41")
    async def said(output):
        print(sandbox.id, flush=True)
    cell = sandbox.run_code("import time; time.sleep(99)")
    await asyncio.gather(sandbox.run_command(command, on_output=said), cell)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_host_that_is_killed(sandboxes: Sandboxes, workspace: Path, home: Path) -> None:
    command = [sys.executable, "-c", HOST, str(home), str(workspace), TREE]
    host = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert host.stdout
    async with asyncio.timeout(30):
        sandbox_id = (await host.stdout.readline()).decode().strip()
    host.kill()
    await host.wait()
    acquired = await sandboxes.acquire(SES, workspace)
    assert (acquired.how, acquired.sandbox.id) == ("reused", sandbox_id)

    async def quiet() -> None:
        while (await acquired.sandbox.run_command(SLEEPERS)).stdout:
            await asyncio.sleep(0.05)

    await asyncio.wait_for(quiet(), PROMPT)
    assert (await acquired.sandbox.run_code("x + 1", timeout=PROMPT)).results[0].data == "42"


MAKER = """
import asyncio, sys
from pathlib import Path
from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandboxes
from orchestrion.sandbox.protocols import SandboxSpec

async def main(home):
    boxes = Sandboxes(Settings(home=Path(home), sandbox_max_per_owner=64), pool=2)
    await boxes.probe("local")
    print("ready", flush=True)
    while True:
        made = await boxes.create(SandboxSpec())
        print(made.id, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("delay", [0.01, 0.06, 0.2])
async def test_a_host_that_is_killed_while_it_makes_sandboxes(sandboxes: Sandboxes, home: Path, delay: float) -> None:
    host = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAKER, str(home), stdout=subprocess.PIPE, start_new_session=True
    )
    assert host.stdout
    async with asyncio.timeout(30):
        await host.stdout.readline()
    await asyncio.sleep(delay)
    host.kill()
    await host.wait()
    places = [path.name for path in (home / "sandboxes").iterdir() if len(path.name) == 20]
    recorded = {name for name in places if (home / "sandboxes" / name / "sandbox.json").exists()}
    provider = LocalProvider(home, pool=0)
    # Whatever is not recorded was half-born, and ends with its maker.
    await eventually(lambda: not processes_of(set(places) - recorded), PROMPT, "what nobody knows lives on")
    known = {info.id for info in await provider.known()}
    assert known == recorded
    for name in recorded:
        await provider.remove(name)
    await provider.aclose()
    assert processes_of(places) == {}


# The zygote


async def test_a_zygote_that_is_killed(sandboxes: Sandboxes, workspace: Path, home: Path) -> None:
    first = (await sandboxes.acquire(SES, workspace)).sandbox
    await first.run_code("x = 1")
    before = set(children())
    for pid in before:
        if b"python" in Path(f"/proc/{pid}/cmdline").read_bytes() and pid != pid_of(home, first.id):
            os.kill(pid, signal.SIGKILL)
    assert [rich.data for rich in (await first.run_code("x")).results] == ["1"]
    for _ in range(4):
        made = await sandboxes.create(SandboxSpec())
        assert (await made.run_command("echo fine")).stdout == "fine\n"
    assert set(children()) - before
    assert await first.ping()


# The host's disk


@pytest.fixture
def tiny() -> Iterator[Path]:
    """A file system with next to no room."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount one")
    folder = Path(tempfile.mkdtemp(prefix="orchestrion-tiny-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    shutil.rmtree(folder, ignore_errors=True)


async def test_a_full_disk_of_the_host(tiny: Path) -> None:
    provider = LocalProvider(tiny / "home", pool=0)
    if not (state := await provider.probe()).ok:
        pytest.skip(f"{state.detail} {state.remedy}")
    made = await provider.create(SandboxSpec())
    before = groups_of([path.name for path in (tiny / "home" / "sandboxes").iterdir()])
    with open(tiny / "ballast", "wb") as file:
        try:
            while True:
                file.write(b"x" * 65536)
                file.flush()
        except OSError:
            pass
    with pytest.raises((SandboxError, SandboxUnavailable), match=r"(?i)space|disk"):
        await provider.create(SandboxSpec())
    assert (await made.run_command("echo fine")).stdout == "fine\n"
    places = [path.name for path in (tiny / "home" / "sandboxes").iterdir() if path.name != "locks"]
    assert places == [made.id]
    assert groups_of(places) == before
    (tiny / "ballast").unlink()
    again = await provider.create(SandboxSpec())
    assert (await again.run_command("echo fine")).stdout == "fine\n"
    for sandbox in (made, again):
        await sandbox.close()
    with pytest.raises(NotFound):
        await provider.info(made.id)
    await provider.aclose()
    assert processes_of([made.id, again.id]) == {}
    assert json.dumps(sockets_below(tiny)) == "[]"
