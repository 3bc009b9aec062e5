"""Whatever is stopped, stops: with everything that it started, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from orchestrion.core.errors import SandboxGone
from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandbox, Sandboxes

TREE = "(setsid sleep 7777 &) ; setsid sh -c 'sleep 7777 & exec sleep 7777' & sleep 7777"


async def running(sandbox: Sandbox, mark: str) -> int:
    """Count the processes whose command line has `mark`, without the one that counts."""
    code = (
        "import glob, os\n"
        "def _args(p):\n"
        "    try: return open(p, 'rb').read()\n"
        "    except OSError: return b''\n"
        f"sum({mark.encode()!r} in _args(p) for p in glob.glob('/proc/[0-9]*/cmdline'))"
    )
    return int((await sandbox.run_code(code)).results[-1].data)


async def until(sandbox: Sandbox, mark: str, count: int) -> None:
    async with asyncio.timeout(20):
        while await running(sandbox, mark) < count:
            await asyncio.sleep(0.02)


async def test_a_commands_timeout_kills_the_whole_tree(sandbox: Sandbox) -> None:
    result = await sandbox.run_command(f"echo begun; {TREE}", timeout=1)
    assert (result.exit_code, result.timed_out, result.stdout) == (124, True, "begun\n")
    assert await running(sandbox, "7777") == 0


async def test_a_timeout_spares_what_others_started(sandbox: Sandbox) -> None:
    await sandbox.run_command("sleep 5555 &")
    await sandbox.run_code("import subprocess\nkept = subprocess.Popen(['sleep', '6666'])")
    assert (await sandbox.run_command(TREE, timeout=0.5)).timed_out
    assert (
        await sandbox.run_code("import time\nsubprocess.Popen(['sleep', '7777'])\ntime.sleep(60)", timeout=0.5)
    ).timed_out
    assert [await running(sandbox, mark) for mark in ("5555", "6666", "7777")] == [1, 1, 0]


async def test_cancelling_a_command_ends_its_tree_in_time(sandbox: Sandbox) -> None:
    call = asyncio.create_task(sandbox.run_command(TREE))
    await asyncio.sleep(0)
    # Counting needs the kernel, which the command doesn't block.
    await until(sandbox, "7777", 4)
    call.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait({call})
    assert call.cancelled()
    assert await running(sandbox, "7777") == 0


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.02, 0.05])
async def test_cancelling_in_a_flood_of_output_spares_the_sandbox(sandbox: Sandbox, delay: float) -> None:
    await sandbox.run_code("x = 1")
    flood = "import sys\nwhile True: sys.stdout.write('\\0' * 100_000)"
    for call in (sandbox.run_command("cat /dev/zero"), sandbox.run_code(flood)):
        task = asyncio.create_task(call)
        await asyncio.wait({task}, timeout=0.2 + delay)
        task.cancel()
        await asyncio.wait({task}, timeout=10)
        assert task.cancelled()
    assert (await sandbox.run_code("x")).results[0].data == "1"


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.sleep(999)",
        "import os\nos.system('setsid sleep 7777')",
        "while True:\n    try:\n        while True: pass\n    except KeyboardInterrupt: pass",
        "import asyncio\nawait asyncio.sleep(999)",
    ],
    ids=["sleeping", "in os.system", "swallowing interrupts", "awaiting"],
)
async def test_cancelling_a_cell_ends_it_in_time(sandbox: Sandbox, code: str) -> None:
    begun = asyncio.Event()

    async def on_output(_output: object) -> None:
        begun.set()

    call = asyncio.create_task(sandbox.run_code(f"print('begun')\n{code}", on_output=on_output))
    await asyncio.wait_for(begun.wait(), 20)
    call.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait({call})
    assert call.cancelled()
    assert await running(sandbox, "7777") == 0
    assert await sandbox.ping()


async def test_an_interrupted_cell_keeps_the_variables(sandbox: Sandbox) -> None:
    await sandbox.run_code("x = 1")
    result = await sandbox.run_code("print('begun')\nimport time\ntime.sleep(99)", timeout=0.5)
    assert (result.timed_out, result.restarted, result.stdout) == (True, False, "begun\n")
    assert result.error is not None
    assert result.error.name == "TimeoutError"
    assert (await sandbox.run_code("x")).results[0].data == "1"


async def test_a_cell_that_does_not_heed_loses_its_interpreter(sandbox: Sandbox) -> None:
    await sandbox.run_code("x = 1")
    stubborn = "import time\nwhile True:\n    try: time.sleep(9)\n    except KeyboardInterrupt: pass"
    result = await sandbox.run_code(stubborn, timeout=0.5)
    assert (result.timed_out, result.restarted) == (True, True)
    assert result.error is not None
    assert "variables are gone" in result.error.message
    again = await sandbox.run_code("x")
    assert again.error is not None
    assert again.error.name == "NameError"
    assert not again.restarted


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import ctypes\nctypes.string_at(0)", "signal 11"),
        ("import os\nos._exit(7)", "exit status 7"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "signal 9"),
        ("import os\nos.close(3)", "exit status 1"),
        ("import os\nos.write(3, b'nonsense\\n' + b'x' * 100)", "closed its channel"),
    ],
)
async def test_a_crash_is_a_result_and_the_next_cell_works(sandbox: Sandbox, code: str, words: str) -> None:
    result = await sandbox.run_code(f"print('before', flush=True)\n{code}")
    assert result.stdout == "before\n"
    assert result.restarted
    assert result.error is not None
    assert result.error.name == "InterpreterDied"
    assert words in result.error.message
    assert (await sandbox.run_code("1 + 1")).results[0].data == "2"


async def test_a_kernel_that_dies_between_cells_is_reported_by_the_next(sandbox: Sandbox) -> None:
    await sandbox.run_code("import os, threading\nthreading.Timer(0.2, os._exit, [1]).start()")
    await asyncio.sleep(1)
    result = await sandbox.run_code("1")
    assert (result.restarted, result.error, result.results[0].data) == (True, None, "1")


async def test_killing_the_sandbox_in_the_middle_of_a_call(sandboxes: Sandboxes, workspace: Path) -> None:
    sandbox, _ = await sandboxes.acquire("ses_test", workspace)
    begun = asyncio.Event()

    async def on_output(_output: object) -> None:
        begun.set()

    call = asyncio.create_task(sandbox.run_command("echo begun; sleep 99", on_output=on_output))
    await asyncio.wait_for(begun.wait(), 20)
    os.kill(sandbox.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    with pytest.raises(SandboxGone):
        await call
    with pytest.raises(SandboxGone):
        await sandbox.run_code("1")
    second, new = await sandboxes.acquire("ses_test", workspace)
    assert new
    assert second.id != sandbox.id
    assert (await second.run_code("1")).results[0].data == "1"


async def test_code_inside_cannot_kill_the_daemon(sandbox: Sandbox) -> None:
    await sandbox.run_command("kill -9 1; kill -STOP 1; kill -TERM 1; kill -9 -1")
    assert await sandbox.ping()
    assert (await sandbox.run_code("1")).results[0].data == "1"


async def test_code_inside_cannot_reach_into_the_daemon(sandbox: Sandbox) -> None:
    code = """
import ctypes, os, socket
libc, seen = ctypes.CDLL(None, use_errno=True), []
for look, names in ((lambda path: open(path, "rb").read(1), "mem maps environ"), (os.readlink, "fd/4 cwd root")):
    for name in names.split():
        try:
            look(f"/proc/1/{name}")
            seen.append(name)
        except OSError:
            pass
pidfd = os.pidfd_open(1)
if libc.syscall(438, pidfd, 4, 0) >= 0:
    seen.append("pidfd_getfd")
for family in (17, 29, 31, 38, 40, 44):
    try:
        socket.socket(family, socket.SOCK_STREAM)
        seen.append(family)
    except OSError as error:
        if error.errno != 97:
            seen.append(error.errno)
seen
"""
    result = await sandbox.run_code(code)
    assert [rich.data for rich in result.results] == ["[]"], result.error
    adjusted = await sandbox.run_command("cat /proc/self/oom_score_adj; ls /proc/self/fd | wc -l")
    assert adjusted.stdout.split() == ["800", "4"]


async def test_a_host_that_dies_takes_its_commands_along(sandbox: Sandbox, sandboxes: Sandboxes) -> None:
    await sandbox.run_code("x = 1")
    run = sandboxes._local._records.root / sandbox.id / "run"
    fd = os.open(run, os.O_PATH)
    reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{fd}/guest.sock")
    os.close(fd)
    writer.write(b'{"op": "run_command", "command": "echo begun; sleep 7777", "cwd": "/", "timeout": 99}\n')
    assert b"begun" in await reader.readline()
    writer.transport.abort()
    async with asyncio.timeout(5):
        while await running(sandbox, "7777"):
            await asyncio.sleep(0.05)
    assert (await sandbox.run_code("x")).results[0].data == "1"


async def test_a_sandbox_ends_with_its_workspace(sandbox: Sandbox, workspace: Path) -> None:
    workspace.rmdir()
    async with asyncio.timeout(30):
        while Path(f"/proc/{sandbox.pid}").exists():  # type: ignore[attr-defined]
            await asyncio.sleep(0.1)


async def test_an_idle_sandbox_ends_by_itself(tmp_path: Path) -> None:
    sandboxes = Sandboxes(Settings(home=tmp_path, sandbox_idle_seconds=5))
    if not (await sandboxes.probe()).ok:
        pytest.skip("no sandbox here")
    (tmp_path / "workspace").mkdir()
    try:
        sandbox, _ = await sandboxes.acquire("ses_idle", tmp_path / "workspace")
        assert (await sandbox.run_command("(setsid sleep 8888 &) ; sleep 6")).exit_code == 0
        assert await sandbox.ping()
        async with asyncio.timeout(30):
            while Path(f"/proc/{sandbox.pid}").exists():  # type: ignore[attr-defined]
                await asyncio.sleep(0.1)
        assert await sandboxes.find("ses_idle") is None
        assert list((tmp_path / "sandboxes").glob("sbx_*")) == []
    finally:
        with contextlib.suppress(Exception):
            await sandboxes.close_all()
