"""Bombs: what is too much ends with a clear result; the sandbox and the host live on."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrion.core.errors import SandboxError
from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandbox, Sandboxes
from orchestrion.sandbox.local.wire import Connection


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Sandbox]:
    """A sandbox with little memory and few processes."""
    sandboxes = Sandboxes(Settings(home=tmp_path, sandbox_memory_mb=512, sandbox_processes=48))
    if not (await sandboxes.probe()).ok:
        pytest.skip("no sandbox here")
    (tmp_path / "workspace").mkdir()
    yield (await sandboxes.acquire("ses_small", tmp_path / "workspace"))[0]
    await sandboxes.close_all()


async def test_a_fork_bomb_is_contained_and_ended(small: Sandbox) -> None:
    result = await small.run_command("bomb() { bomb | bomb & }; bomb; sleep 60", timeout=2)
    assert (result.exit_code, result.timed_out) == (124, True)
    left = await small.run_code("import glob\nlen(glob.glob('/proc/[0-9]*'))")
    assert int(left.results[0].data) < 10
    assert (await small.run_command("echo fine")).stdout == "fine\n"


async def test_a_fork_bomb_in_python(small: Sandbox) -> None:
    code = """
import os, signal
n = 0
try:
    while True:
        if os.fork() == 0:
            while True: pass
        n += 1
except OSError:
    pass
n"""
    result = await small.run_code(code, timeout=20)
    assert int(result.results[0].data) < 48
    with pytest.raises(SandboxError, match="limit of processes"):
        await small.run_command("echo no place left")
    ended = await small.run_code("os.kill(-1, signal.SIGKILL)\nfor _ in range(n): os.wait()")
    assert ended.error is None
    assert (await small.run_command("echo fine")).stdout == "fine\n"
    assert (await small.run_code("while True: pass", timeout=0.5)).timed_out
    assert (await small.run_code("os._exit(0)")).restarted
    left = await small.run_code("import glob\nlen(glob.glob('/proc/[0-9]*'))")
    assert int(left.results[0].data) < 5


async def test_one_process_with_too_much_memory_gets_an_exception(small: Sandbox) -> None:
    result = await small.run_code("x = bytearray(700 * 1024 * 1024)")
    assert result.error is not None
    assert result.error.name == "MemoryError"
    assert not result.restarted


async def test_many_processes_with_too_much_memory_lose_the_biggest(small: Sandbox) -> None:
    eat = "python -c 'import time; x = bytearray(300 << 20); x[::4096] = b\"1\" * len(x[::4096]); time.sleep(5)'"
    result = await small.run_command(f"{eat} & {eat} & wait; echo ended", timeout=60)
    assert "over the sandbox's memory limit of 512 MiB" in result.stderr
    assert await small.ping()


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
    assert (await small.run_code("1")).results[0].data == "1"


async def test_a_file_may_not_grow_without_end(sandbox: Sandbox) -> None:
    # The limit is 4 GiB; a sparse file reaches it without filling the disk.
    result = await sandbox.run_code("open('big', 'wb').truncate(5 << 30)")
    assert result.error is not None
    assert result.error.name == "OSError"
    assert (await sandbox.run_code("open('big', 'wb').truncate(3 << 30)")).error is None


async def test_descriptors_are_bounded(sandbox: Sandbox) -> None:
    result = await sandbox.run_code("keep = [open('/dev/null') for _ in range(2000)]")
    assert result.error is not None
    assert result.error.name == "OSError"
    assert (await sandbox.run_code("1")).results[0].data == "1"


async def test_endless_output_is_slowed_down_and_cut_not_kept(sandbox: Sandbox) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = 0

    async def on_output(output: object) -> None:
        nonlocal seen
        seen += len(output.text)  # type: ignore[attr-defined]

    result = await sandbox.run_command("yes 0123456789abcdef", timeout=3, on_output=on_output)
    assert result.timed_out
    assert seen > 3 << 20
    assert len(result.stdout) < (1 << 20) + 100
    assert "characters left out" in result.stdout
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80 * 1024


async def test_a_slow_listener_slows_the_writer_down(sandbox: Sandbox, workspace: Path) -> None:
    async def on_output(_output: object) -> None:
        await asyncio.sleep(0.2)

    writer = "i=0; while :; do head -c 1048576 /dev/zero | tr '\\0' x; i=$((i+1)); echo $i > count; done"
    result = await sandbox.run_command(writer, timeout=3, on_output=on_output)
    assert result.timed_out
    assert int((workspace / "count").read_text() or 0) < 60


async def test_endless_output_of_a_cell(sandbox: Sandbox) -> None:
    result = await sandbox.run_code("while True: print('x' * 1000)", timeout=2)
    assert result.timed_out
    assert not result.restarted
    assert "characters left out" in result.stdout
    huge = await sandbox.run_code("'y' * 50_000_000")
    assert len(huge.results[0].data) < 300_000
    assert "left out" in huge.results[0].data


class Liar:
    """A guest that answers every request with the same bytes."""

    def __init__(self, place: Path, answer: bytes, times: int = 1) -> None:
        self._answer, self._times = answer, times
        self._path = place / "guest.sock"

    async def __aenter__(self) -> Connection:
        self._server = await asyncio.start_unix_server(self._lie, str(self._path))
        return await Connection.open(self._path.parent)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _lie(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for _ in range(self._times):
                writer.write(self._answer)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"not json\n",
        b"[1, 2]\n",
        b"[" * 100_000 + b"\n",
        b"1" * 10_000 + b"\n",
        b"\xff\xfe\n",
        b'{"type": "done"',
        b"",
    ],
)
async def test_a_guest_that_lies_is_an_error_not_a_crash(tmp_path: Path, answer: bytes) -> None:
    async with Liar(tmp_path, answer) as connection:
        with pytest.raises(SandboxError):
            await connection.receive(5)


async def test_a_guest_that_never_ends_its_line_is_cut_off(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with Liar(tmp_path, b"x" * 65536, times=4000) as connection:
        with pytest.raises(SandboxError, match="allowed"):
            await connection.receive(30)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120 * 1024
