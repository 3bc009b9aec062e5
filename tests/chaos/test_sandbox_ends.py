"""Whatever is stopped, stops: with everything that it started, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sandbox_world import eventually, pid_of, processes_of

from orchestrion.sandbox import Sandbox, Sandboxes, SandboxSpec

# So soon, in seconds, nothing is left of a call that is cancelled.
PROMISE = 2.0

TREE = "(setsid sleep 7777 &) ; setsid sh -c 'sleep 7777 & exec sleep 7777' & sleep 7777"


async def running(sandbox: Sandbox, mark: str) -> int:
    """Count the processes whose command line has `mark`, without those that count."""
    # A bare machine has no `pgrep`.
    look = f"grep -la '[{mark[0]}]{mark[1:]}' /proc/[0-9]*/cmdline 2>/dev/null | wc -l"
    counted = await sandbox.run_command(look)
    return int(counted.stdout)


async def gone(sandbox: Sandbox, mark: str, seconds: float = PROMISE) -> None:
    """Wait until nothing with `mark` runs; a look that began in time may take its own time."""
    deadline = time.monotonic() + seconds
    in_time = True
    while count := await running(sandbox, mark):
        assert in_time, f"{count} of them live on"
        in_time = time.monotonic() < deadline


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


async def cancel(call: asyncio.Task[object], sandbox: Sandbox) -> None:
    """Cancel a call; what it started is gone as soon as is promised."""
    call.cancel()
    await asyncio.wait({call}, timeout=PROMISE)
    assert call.cancelled()
    await gone(sandbox, "7777")


async def test_cancelling_a_command_ends_its_tree_in_time(sandbox: Sandbox) -> None:
    call = asyncio.create_task(sandbox.run_command(TREE))
    await until(sandbox, "7777", 4)
    await cancel(call, sandbox)


async def test_cancelling_as_soon_as_it_begins(sandbox: Sandbox) -> None:
    await running(sandbox, "7777")
    for steps in range(12):
        call = asyncio.create_task(sandbox.run_command(TREE))
        for _ in range(steps):
            await asyncio.sleep(0.002)
        await cancel(call, sandbox)


async def test_cancelling_an_upload_leaves_no_half_file(sandbox: Sandbox, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            begun.set()
            await asyncio.sleep(0.01)

    daemon = Path("/proc", str(pid_of(tmp_path / "home", sandbox.id)), "fd")
    call = asyncio.create_task(sandbox.files.write("/home/user/up", endless()))
    await asyncio.wait_for(begun.wait(), 20)
    await until_open(daemon, "/home/user", opened=True)
    await cancel(call, sandbox)
    await until_open(daemon, "/home/user", opened=False)
    assert [entry.name for entry in await sandbox.files.list("/home/user") if entry.name == "up"] == []


async def test_cancelling_a_download_closes_the_file(sandbox: Sandbox, tmp_path: Path) -> None:
    await sandbox.run_code("open('/home/user/down', 'wb').truncate(1 << 30)")
    begun = asyncio.Event()

    async def read_slowly() -> None:
        async for _ in sandbox.files.read("/home/user/down"):
            begun.set()
            await asyncio.sleep(0.05)

    daemon = Path("/proc", str(pid_of(tmp_path / "home", sandbox.id)), "fd")
    call = asyncio.create_task(read_slowly())
    await asyncio.wait_for(begun.wait(), 20)
    await until_open(daemon, "/home/user/down", opened=True)
    await cancel(call, sandbox)
    await until_open(daemon, "/home/user/down", opened=False)


async def until_open(descriptors: Path, path: str, *, opened: bool) -> None:
    """Wait until a process has a file open, or no more; seen from outside, where only root may look."""
    if os.geteuid() != 0:
        return

    def is_open() -> bool:
        found = []
        for name in os.listdir(descriptors):
            with contextlib.suppress(OSError):
                found.append(os.readlink(descriptors / name))
        return any(path in one for one in found)

    await eventually(lambda: is_open() is opened, PROMISE, f"{path} is {'not ' if opened else ''}open")


async def test_a_terminal_outlives_its_watcher_and_ends_when_killed(sandbox: Sandbox) -> None:
    terminal = await sandbox.processes.start(["sh", "-c", "sleep 7777 & exec sleep 7777"], terminal=(80, 24))

    async def watch() -> None:
        async for _ in terminal.events():
            pass

    watching = asyncio.create_task(watch())
    await until(sandbox, "7777", 2)
    watching.cancel()
    await asyncio.wait({watching})
    await terminal.close()
    again = await sandbox.processes.connect(terminal.pid)
    assert await again.kill()
    # The hang-up of its terminal ends what it had started.
    await gone(sandbox, "7777")


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


CELLS = {
    "sleeping": ("python", "import time\ntime.sleep(999)"),
    "in os.system": ("python", "import os\nos.system('setsid sleep 7777')"),
    "swallowing interrupts": (
        "python",
        "while True:\n    try:\n        while True: pass\n    except KeyboardInterrupt: pass",
    ),
    "awaiting": ("python", "import asyncio\nawait asyncio.sleep(999)"),
    "double-forked": ("python", f"import os, time\nos.system({TREE.replace('; sleep', '& sleep')!r})"),
    "bash": ("bash", TREE),
    "javascript": (
        "javascript",
        "require('child_process').spawn('setsid', ['sleep', '7777'], {detached: true}); while (true) {}",
    ),
}
PRINTING = {"python": "print('begun')\n", "bash": "echo begun\n", "javascript": "console.log('begun');\n"}


@pytest.mark.parametrize("name", CELLS)
async def test_cancelling_a_cell_ends_it_in_time(sandbox: Sandbox, name: str) -> None:
    language, code = CELLS[name]
    if language == "javascript" and not (await sandbox.run_command("command -v node")).stdout:
        pytest.skip("there is no node in /usr")
    begun = asyncio.Event()

    async def on_output(_output: object) -> None:
        begun.set()

    await running(sandbox, "7777")
    call = asyncio.create_task(
        sandbox.run_code(PRINTING[language] + code, language=language, on_output=on_output)  # type: ignore[arg-type]
    )
    await asyncio.wait_for(begun.wait(), 20)
    call.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait({call})
    assert call.cancelled()
    await gone(sandbox, "7777")
    assert await sandbox.ping()


async def test_an_interrupted_cell_keeps_the_variables(sandbox: Sandbox) -> None:
    await sandbox.run_code("x = 1")
    result = await sandbox.run_code("print('begun')\nimport time\ntime.sleep(99)", timeout=0.5)
    assert (result.timed_out, result.restarted, result.stdout) == (True, False, "begun\n")
    assert (await sandbox.run_code("x")).results[0].data == "1"


async def test_a_cell_that_does_not_heed_loses_its_interpreter(sandbox: Sandbox) -> None:
    await sandbox.run_code("x = 1")
    stubborn = "import time\nwhile True:\n    try: time.sleep(9)\n    except KeyboardInterrupt: pass"
    result = await sandbox.run_code(stubborn, timeout=0.5)
    assert (result.timed_out, result.restarted) == (True, True)
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


async def test_code_inside_cannot_kill_the_daemon(sandbox: Sandbox) -> None:
    for number in ("9", "SEGV"):
        # A shell spares itself, but not the process that would tell of its end.
        killed = await sandbox.run_command(f"kill -{number} 1; kill -STOP 1; kill -TERM 1; kill -{number} -1")
        assert killed.exit_code in (0, 137, 139)
        assert [(await sandbox.run_command("echo fine")).stdout for _ in range(6)] == ["fine\n"] * 6
    assert await sandbox.ping()
    assert (await sandbox.run_code("1")).results[0].data == "1"


async def test_code_that_stops_everything_has_its_time_and_no_more(sandbox: Sandbox) -> None:
    stopping = await sandbox.run_command(f"kill -STOP -1; (setsid sleep 7777 &) ; {TREE}", timeout=1)
    assert (stopping.exit_code, stopping.timed_out) == (124, True)
    assert [(await sandbox.run_command("echo fine")).stdout for _ in range(6)] == ["fine\n"] * 6
    assert (await sandbox.run_command("kill -STOP -1")).exit_code == 0
    assert await running(sandbox, "7777") == 0


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
    assert {rich.data for rich in result.results} == {"[]"}, result.error
    # The first is started by the daemon itself, the later ones by what it keeps ready.
    for _ in range(3):
        adjusted = await sandbox.run_command("cat /proc/self/oom_score_adj; ls /proc/self/fd | wc -l; sleep 0.5")
        assert adjusted.stdout.split() == ["800", "4"]
    assert (await sandbox.run_command("cat /proc/1/oom_score_adj")).stdout == "0\n"


async def test_a_sandbox_ends_with_its_workspace(sandbox: Sandbox, workspace: Path, tmp_path: Path) -> None:
    pid = pid_of(tmp_path / "home", sandbox.id)
    workspace.rmdir()
    await eventually(lambda: not Path(f"/proc/{pid}").exists(), 30, "it lives on")


async def test_an_idle_sandbox_ends_by_itself(sandboxes: Sandboxes, tmp_path: Path) -> None:
    sandbox = await sandboxes.create(SandboxSpec(idle_seconds=3))
    pid = pid_of(tmp_path / "home", sandbox.id)
    assert (await sandbox.run_command("(setsid sleep 8888 &) ; sleep 4")).exit_code == 0
    assert await sandbox.ping()
    await eventually(lambda: not Path(f"/proc/{pid}").exists(), 30, "it lives on")
    assert [held.info.id for held in await sandboxes.all()] == []
    assert processes_of([sandbox.id]) == {}
