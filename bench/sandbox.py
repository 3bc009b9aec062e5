"""How fast sandboxes are: made, used, filled and emptied, each beside what the machine does without one.

The yardsticks: `podman run --rootfs` on a small root file system (where podman is installed), a plain fork and exec
of the same command, and a plain pipe or write of the same bytes.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

from bench.harness import Figure, bench
from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandbox, Sandboxes
from orchestrion.sandbox.protocols import SandboxSpec

ROUNDS = 30
CALLS = 200
MIB = 1024 * 1024
BULK = 256 * MIB
PIECE = b"x" * MIB
SETTLE = 0.3


@bench("sandbox")
async def sandbox() -> list[Figure]:
    """Measure the local provider."""
    with tempfile.TemporaryDirectory(prefix="orchestrion-bench-") as name:
        home = Path(name)
        sandboxes = Sandboxes(Settings(home=home, sandbox_pool=2, sandbox_max=1000, sandbox_max_per_owner=1000))
        await _ready(sandboxes)
        try:
            async with sandboxes:
                starts = await _starts(sandboxes, home)
            cold = Sandboxes(Settings(home=home, sandbox_pool=0, sandbox_max=1000, sandbox_max_per_owner=1000))
            try:
                return [*starts, *await _cold(cold, home), *await _calls(cold), *await _bulk(cold, home)]
            finally:
                await cold.close_all()
                await cold.aclose()
        finally:
            await sandboxes.close_all()


async def _ready(sandboxes: Sandboxes) -> None:
    state = await sandboxes.probe("local")
    if not state.ok:
        raise RuntimeError(f"{state.detail} {state.remedy}")


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    begun = perf_counter()
    await work()
    return perf_counter() - begun


async def _median_ms(work: Callable[[], Awaitable[object]], rounds: int) -> float:
    for _ in range(3):
        await work()
    gc.disable()
    times = [await _seconds(work) for _ in range(rounds)]
    gc.enable()
    return median(times) * 1000


async def _starts(sandboxes: Sandboxes, home: Path) -> list[Figure]:
    """Acquire sandboxes for sessions while the pool has one ready."""
    times: list[float] = []
    for number in range(ROUNDS):
        session, workspace = f"ses_warm{number}", home / "workspaces" / f"warm{number}"
        workspace.mkdir(parents=True)
        await asyncio.sleep(SETTLE)
        begun = perf_counter()
        await sandboxes.acquire(session, workspace)
        times.append((perf_counter() - begun) * 1000)
        await sandboxes.close(session)
    forked = await _median_ms(lambda: _run("true"), ROUNDS)
    name = f"acquired from the warm pool, median of {ROUNDS}"
    return [Figure(name, median(times), "ms", forked, "fork+exec of true", at_most=5)]


async def _cold(sandboxes: Sandboxes, home: Path) -> list[Figure]:
    """Make sandboxes with nothing prepared but the zygote, up to their first command's result."""

    times: list[float] = []
    for _ in range(ROUNDS):
        begun = perf_counter()
        made = await sandboxes.create(SandboxSpec())
        result = await made.run_command("true")
        times.append((perf_counter() - begun) * 1000)
        assert result.exit_code == 0
        await sandboxes.remove(made.id)
    name = f"made cold, to its first command's result, median of {ROUNDS}"
    yardstick, words = await _podman(home)
    return [Figure(name, median(times[3:]), "ms", yardstick, words, at_most=60)]


async def _podman(home: Path) -> tuple[float | None, str]:
    """Return the milliseconds of `podman run --rootfs … true`, if podman works here."""
    if shutil.which("podman") is None:
        return None, ""
    root = home / "rootfs"
    for place in ("bin", "lib", "lib64", "etc", "proc", "sys", "dev", "tmp", "run"):
        (root / place).mkdir(parents=True)
    shutil.copy("/bin/true", root / "bin" / "true")
    for library in await _libraries("/bin/true"):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    argv = ["podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "run", "--rm", "--network", "none"]
    argv += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--rootfs", str(root), "/bin/true"]
    try:
        return await _median_ms(lambda: _run(*argv), 5), "podman run --rootfs"
    except RuntimeError:
        return None, ""


async def _libraries(program: str) -> list[str]:
    process = await asyncio.create_subprocess_exec("ldd", program, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return [word for word in out.decode().split() if word.startswith("/")]


async def _run(*argv: str) -> None:
    null = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdout=null, stderr=null)
    if await asyncio.wait_for(process.wait(), 60):
        raise RuntimeError(f"{argv[0]} failed")


@asynccontextmanager
async def _made(sandboxes: Sandboxes) -> AsyncGenerator[Sandbox, None]:
    made = await sandboxes.create(SandboxSpec())
    try:
        yield made
    finally:
        await sandboxes.remove(made.id)


async def _calls(sandboxes: Sandboxes) -> list[Figure]:
    """Measure the smallest command and the smallest cell."""
    async with _made(sandboxes) as one:
        await one.run_command("true")
        await asyncio.sleep(SETTLE)  # a sandbox in use, not one that is still getting ready
        command = await _median_ms(lambda: one.run_command("true"), CALLS)
        await one.run_code("x = 1")
        cell = await _median_ms(lambda: one.run_code("x + 1"), CALLS)
    forked = await _median_ms(lambda: _run("/bin/sh", "-c", "true"), CALLS)
    python = await _median_ms(lambda: _run("python3", "-c", "1 + 1"), ROUNDS)
    return [
        Figure(f"a trivial command, median of {CALLS}", command, "ms", forked, "fork+exec of sh", at_most=3),
        Figure(f"a Python cell in a live context, median of {CALLS}", cell, "ms", python, "python3 -c", at_most=5),
    ]


async def _bulk(sandboxes: Sandboxes, home: Path) -> list[Figure]:
    """Measure bytes in, out, and printed."""
    async with _made(sandboxes) as one:
        up = await _best(lambda: one.files.write("bulk", _pieces()))
        down = await _best(lambda: _drain(one))
        out = await _best(lambda: one.run_command(f"head -c {BULK} /dev/zero | tr '\\0' x", timeout=120))
        assert (await one.files.stat("bulk")).size == BULK
    copied, piped = await _best(lambda: _copy(home)), await _best(_pipe)
    return [
        Figure("upload", up, "MiB/s", copied, "plain write of the file", at_least=200),
        Figure("download", down, "MiB/s", copied, "plain write of the file", at_least=200),
        Figure("a command's output", out, "MiB/s", piped, "the same through a pipe", at_least=100),
    ]


async def _best(work: Callable[[], Awaitable[object]]) -> float:
    """Return the MiB per second of the best of three."""
    return BULK / MIB / min([await _seconds(work) for _ in range(3)])


async def _pieces() -> AsyncGenerator[bytes, None]:
    for _ in range(BULK // MIB):
        yield PIECE


async def _drain(one: Sandbox) -> None:
    total = 0
    async for piece in one.files.read("bulk"):
        total += len(piece)
    assert total == BULK


async def _copy(home: Path) -> None:
    def write() -> None:
        with (home / "copy").open("wb") as file:
            for _ in range(BULK // MIB):
                file.write(PIECE)

    await asyncio.to_thread(write)


async def _pipe() -> None:
    pipe = asyncio.subprocess.PIPE
    command = f"head -c {BULK} /dev/zero | tr '\\0' x"
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", command, stdout=pipe, limit=MIB)
    assert process.stdout is not None
    while await process.stdout.read(MIB):
        pass
    await process.wait()
    assert os.waitstatus_to_exitcode(process.returncode or 0) == 0
