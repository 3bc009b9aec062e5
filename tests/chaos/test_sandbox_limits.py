"""Bombs: what is too much ends with a clear result; the sandbox, its neighbours and the host live on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sandbox_world import MIB, growth, pid_of

from orchestrion.core.errors import SandboxError
from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandbox, Sandboxes
from orchestrion.sandbox.local import LocalProvider
from orchestrion.sandbox.protocols import Limits, ProcessOutput, SandboxSpec

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = Limits(memory_mb=512, processes=48, file_mb=300, open_files=256, disk_mb=200, files=3000, tmp_mb=64)
PLACES = ["/home/user", "/tmp", "/workspace"]
# A number of processes as the pid namespace has it, without the one that counts.
LEFT = "import glob\nlen(glob.glob('/proc/[0-9]*'))"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider(home: Path) -> AsyncIterator[LocalProvider]:
    made = LocalProvider(home, Settings(home=home).sandbox_python, pool=0)
    state = await made.probe()
    if not state.ok:
        pytest.skip(f"{state.detail} {state.remedy}")
    yield made
    await made.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def small(provider: LocalProvider, tmp_path: Path) -> AsyncIterator[Sandbox]:
    """A sandbox with little of everything."""
    (tmp_path / "workspace").mkdir()
    made = await provider.create(SandboxSpec(workspace=tmp_path / "workspace", limits=LIMITS))
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def neighbour(provider: LocalProvider) -> AsyncIterator[Sandbox]:
    made = await provider.create(SandboxSpec(limits=LIMITS))
    yield made
    await made.close()


async def answers(sandbox: Sandbox) -> bool:
    """Say whether a sandbox can be used as if nothing had been."""
    told = await sandbox.run_command("echo fine")
    counted = await sandbox.run_code("6 * 7")
    return told.stdout == "fine\n" and [rich.data for rich in counted.results] == ["42"]


# Processes


async def test_a_fork_bomb_is_contained_and_ended(small: Sandbox, neighbour: Sandbox) -> None:
    bomb = asyncio.create_task(small.run_command("bomb() { bomb | bomb & }; bomb; sleep 60", timeout=2))
    await asyncio.sleep(0.5)
    assert await answers(neighbour)
    result = await bomb
    assert (result.exit_code, result.timed_out) == (124, True)
    left = await small.run_code(LEFT)
    assert int(left.results[0].data) < 20
    assert await answers(small)


async def test_a_fork_bomb_in_python(small: Sandbox, neighbour: Sandbox) -> None:
    code = """
import os, signal
n = 0
try:
    while True:
        if os.fork() == 0:
            while True: signal.pause()
        n += 1
except OSError:
    pass
n"""
    result = await small.run_code(code, timeout=20)
    assert int(result.results[0].data) < LIMITS.processes
    # A few supervisors had been made ahead; if none is left, that is said.
    told = await asyncio.gather(*(small.run_command("echo fine") for _ in range(8)), return_exceptions=True)
    for one in told:
        if isinstance(one, BaseException):
            assert isinstance(one, SandboxError), one
            assert "limit of processes" in one.detail
        else:
            assert one.stdout == "fine\n"
    assert await answers(neighbour)
    assert (await small.files.list("/workspace")) == []
    # This also ends its supervisor, and often with that itself.
    await small.run_code("os.kill(-1, signal.SIGKILL)")
    assert (await small.run_command("echo fine")).stdout == "fine\n"
    assert (await small.run_code("while True: pass", timeout=0.5)).timed_out
    assert (await small.run_code("import os\nos._exit(0)")).restarted
    left = await small.run_code(LEFT)
    assert int(left.results[0].data) < 20


async def test_processor_hogs_leave_the_others_their_share(small: Sandbox, neighbour: Sandbox) -> None:
    await small.run_command("for i in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done")
    assert await answers(small)
    assert await answers(neighbour)
    await small.run_command("pkill -9 sh")


# Memory


async def test_one_process_with_too_much_memory_gets_an_exception(small: Sandbox) -> None:
    result = await small.run_code("x = bytearray(700 * 1024 * 1024)")
    assert result.error is not None
    assert result.error.name == "MemoryError"
    assert not result.restarted


async def test_many_processes_with_too_much_memory_lose_the_biggest(small: Sandbox, neighbour: Sandbox) -> None:
    eat = "python -c 'import time; x = bytearray(300 << 20); x[::4096] = b\"1\" * len(x[::4096]); time.sleep(5)'"
    result = await small.run_command(f"{eat} & {eat} & wait; echo ended", timeout=60)
    assert "over the sandbox's memory limit of 512 MiB" in result.stderr
    assert await answers(small)
    assert await answers(neighbour)


async def test_a_kernel_killed_for_memory_says_so(small: Sandbox) -> None:
    code = """
import mmap, time
keep = []
while True:
    m = mmap.mmap(-1, 32 << 20)
    m[::4096] = b"1" * len(m[::4096])
    keep.append(m)
    time.sleep(0.05)"""
    result = await small.run_code(code, timeout=60)
    assert result.error is not None
    assert (result.error.name, result.restarted) == ("OutOfMemory", True)
    assert "512 MiB" in result.error.message
    assert await answers(small)


async def test_shared_memory_is_bounded(small: Sandbox) -> None:
    result = await small.run_command("head -c 1G /dev/zero > /dev/shm/big; stat -c %s /dev/shm/big")
    assert "No space left" in result.stderr
    assert int(result.stdout) <= LIMITS.tmp_mb * MIB
    assert await answers(small)


# Files


@pytest.mark.parametrize("place", PLACES)
async def test_a_full_disk(small: Sandbox, neighbour: Sandbox, place: str) -> None:
    fill = f"i=0; while :; do i=$((i+1)); head -c 20M /dev/zero > {place}/big$i || exit 3; done"
    result = await small.run_command(fill, timeout=60)
    assert not result.timed_out
    assert f"over the sandbox's disk limit of {LIMITS.disk_mb} MiB" in result.stderr
    assert await answers(neighbour)
    # What holds the space can be looked at, and removed.
    for entry in await small.files.list(place):
        if entry.name.startswith("big"):
            await small.files.remove(entry.path)
    assert await answers(small)


async def test_root_inside_can_fill_the_disk_no_further(provider: LocalProvider) -> None:
    if not (await provider.capabilities()).root:
        pytest.skip("code can't become root in sandboxes here")
    sandbox = await provider.create(SandboxSpec(limits=LIMITS, root=True))
    try:
        assert (await sandbox.run_command("sleep 1.5; echo fine")).stdout == "fine\n"
        for place in ("/opt/deep", "/usr/share/deep"):
            fill = "i=0; while :; do i=$((i+1)); head -c 20M /dev/zero > big$i || exit 3; done"
            result = await sandbox.run_command(f"mkdir -p {place}; cd {place}; {fill}", user="root", timeout=60)
            assert f"over the sandbox's disk limit of {LIMITS.disk_mb} MiB" in result.stderr
            await sandbox.files.remove(place, user="root")
        assert "Read-only" in (await sandbox.run_command("touch /run/written/usr/x", user="root")).stderr
        assert await answers(sandbox)
    finally:
        await sandbox.close()


async def test_what_is_hidden_from_the_watch_counts_too(small: Sandbox) -> None:
    fill = "mkdir -p hidden/in; cd hidden/in; chmod 300 . ..; "
    fill += "for i in 1 2 3; do head -c 100M /dev/zero > big$i; done; sleep 60"
    result = await small.run_command(fill, timeout=30)
    assert "over the sandbox's disk limit" in result.stderr
    await small.run_command("chmod -R 700 hidden; rm -r hidden")
    assert await answers(small)


async def test_a_cell_that_fills_the_disk_is_told(small: Sandbox) -> None:
    code = "import time\nwith open('/tmp/big', 'wb') as f:\n  while True: f.write(bytes(8 << 20)); time.sleep(0.02)"
    result = await small.run_code(code, timeout=60)
    assert not result.timed_out
    assert result.error is not None
    assert f"disk limit of {LIMITS.disk_mb} MiB" in result.error.message or "too large" in result.error.message
    await small.files.remove("/tmp/big")
    assert await answers(small)


async def test_an_upload_can_fill_the_disk_no_further(small: Sandbox) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(MIB)

    async with growth() as seen:
        with pytest.raises(SandboxError, match=r"(?i)too large|limit|larger|disk"):
            await small.files.write("/home/user/up", endless())
    assert seen.most < 80 * MIB
    assert await answers(small)


@pytest.mark.parametrize("place", PLACES)
async def test_a_million_files(small: Sandbox, place: str) -> None:
    code = f"import os; os.makedirs('{place}/many', exist_ok=True); i = 0\n"
    code += f"while i < 1000000: open(f'{place}/many/{{i}}', 'w').close(); i += 1"
    result = await small.run_command(f'python -c "{code}"', timeout=60)
    assert not result.timed_out
    assert f"over the sandbox's limit of {LIMITS.files} files" in result.stderr
    await small.files.remove(f"{place}/many")
    assert await answers(small)


async def test_a_file_may_not_grow_without_end(small: Sandbox) -> None:
    # A sparse file reaches the limit without filling the disk.
    result = await small.run_code(f"open('big', 'wb').truncate({LIMITS.file_mb + 1} << 20)")
    assert result.error is not None
    assert result.error.name == "OSError"
    assert (await small.run_code(f"open('big', 'wb').truncate({LIMITS.file_mb - 1} << 20)")).error is None


async def test_descriptors_are_bounded(small: Sandbox) -> None:
    result = await small.run_code("keep = [open('/dev/null') for _ in range(2000)]")
    assert result.error is not None
    assert result.error.name == "OSError"
    assert await answers(small)


# Output


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_endless_output_is_slowed_down_and_cut_not_kept(
    small: Sandbox, home: Path, neighbour: Sandbox, stream: str
) -> None:
    seen = 0

    async def on_output(output: object) -> None:
        nonlocal seen
        seen += len(output.text)  # type: ignore[attr-defined]

    async with growth() as ours, growth(pid_of(home, small.id)) as theirs:
        redirect = "1>&2" if stream == "stderr" else ""
        running = asyncio.create_task(
            small.run_command(f"yes 0123456789abcdef {redirect}", timeout=3, on_output=on_output)
        )
        await asyncio.sleep(0.5)
        assert await answers(neighbour)
        assert await answers(small)
        result = await running
    assert result.timed_out
    assert seen > 3 * MIB
    assert len(getattr(result, stream)) < MIB + 100
    assert "characters left out" in getattr(result, stream)
    assert (ours.most < 80 * MIB, theirs.most < 80 * MIB) == (True, True)


async def test_a_slow_listener_slows_the_writer_down(small: Sandbox, tmp_path: Path) -> None:
    async def on_output(_output: object) -> None:
        await asyncio.sleep(0.2)

    writer = "i=0; while :; do head -c 1048576 /dev/zero | tr '\\0' x; i=$((i+1)); echo $i > count; done"
    call = asyncio.create_task(small.run_command(writer, timeout=30, on_output=on_output))
    await asyncio.sleep(3)
    written = int((tmp_path / "workspace" / "count").read_text() or 0)
    call.cancel()
    await asyncio.wait({call})
    assert written < 60


async def test_endless_output_of_a_cell(small: Sandbox, home: Path) -> None:
    async with growth() as ours, growth(pid_of(home, small.id)) as theirs:
        result = await small.run_code("while True: print('x' * 1000)", timeout=2)
        assert result.timed_out
        assert not result.restarted
        assert "characters left out" in result.stdout
        huge = await small.run_code("'y' * 50_000_000")
    assert len(huge.results[0].data) < 300_000
    assert "left out" in huge.results[0].data
    assert (ours.most < 80 * MIB, theirs.most < 80 * MIB) == (True, True)


async def test_displays_without_end(small: Sandbox, home: Path) -> None:
    async with growth() as ours, growth(pid_of(home, small.id)) as theirs:
        code = "while True: display({'text/plain': 'z' * 100_000}, raw=True)"
        stopped = await small.run_code(code, timeout=2)
        many = await small.run_code("for i in range(1000): display(i)")
    assert stopped.timed_out
    assert len(many.results) <= 200
    assert "too many" in many.stderr
    assert (ours.most < 160 * MIB, theirs.most < 160 * MIB) == (True, True)
    assert await answers(small)


async def test_a_terminal_that_nobody_reads(small: Sandbox, home: Path) -> None:
    async with growth() as ours, growth(pid_of(home, small.id)) as theirs:
        terminal = await small.processes.start(["sh", "-c", "yes 0123456789abcdef"], terminal=(80, 24))
        await asyncio.sleep(2)
        assert await answers(small)
        await terminal.close()
        again = await small.processes.connect(terminal.pid)
        async with asyncio.timeout(10):
            piece = await anext(aiter(again.events()))
        assert isinstance(piece, ProcessOutput)
        assert b"0123456789" in piece.data
        await again.close()
        assert await again.kill()
    assert await small.processes.list() == []
    assert (ours.most < 80 * MIB, theirs.most < 80 * MIB) == (True, True)


# Connections


HOARD = """
import os, socket, sys, time
for _ in range(5): os.fork()
kept = []
try:
    while True: kept.append(socket.create_connection(("127.0.0.1", 3128), timeout=2))
except OSError: pass
time.sleep(60)
"""
ENDLESS_HEAD = """
import socket
s = socket.create_connection(("127.0.0.1", 3128), timeout=20)
s.sendall(b"GET http://example.com/ HTTP/1.1\\r\\nX: ")
sent = 0
try:
    while sent < 1 << 30: sent += s.send(b"x" * 1048576)
except OSError: pass
answer = b""
try: answer = s.recv(100)
except OSError: pass
print(sent < 1 << 30, answer[:12])
"""


async def test_connections_and_heads_without_end(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", sandbox_processes=48)
    async with Sandboxes(settings) as sandboxes:
        if not (state := await sandboxes.probe("local")).ok:
            pytest.skip(f"{state.detail} {state.remedy}")
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        one, two = [(await sandboxes.acquire(name, tmp_path / name)).sandbox for name in ("one", "two")]
        try:
            await one.files.write("/workspace/hoard.py", HOARD.encode())
            await one.files.write("/workspace/head.py", ENDLESS_HEAD.encode())
            async with growth() as ours, growth(pid_of(tmp_path / "home", one.id)) as theirs:
                head = await one.run_command("python head.py", timeout=60)
                assert head.stdout.startswith("True"), head
                hoard = asyncio.create_task(one.run_command("python hoard.py", timeout=60))
                await asyncio.sleep(4)
                assert await answers(one)
                assert await answers(two)
                ask = "import urllib.request as u\ntry: u.urlopen('http://example.invalid/')\n"
                ask += "except Exception as e: print(getattr(e, 'code', e))"
                refused = await two.run_code(ask)
                assert "403" in refused.stdout, refused
                hoard.cancel()
                await asyncio.wait({hoard})
            assert await answers(one)
            assert (ours.most < 120 * MIB, theirs.most < 120 * MIB) == (True, True)
        finally:
            await sandboxes.close_all()
