"""`orchestrion sandbox exec` and `shell`: programs in a sandbox, joined to this terminal."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from orchestrion.cli.errors import EXIT_CANCELLED, complain
from orchestrion.cli.sandboxes import ask
from orchestrion.core.errors import InvalidInput, SandboxError
from orchestrion.sandbox import Sandbox, Sandboxes
from orchestrion.sandbox.protocols import Process, ProcessEnd, ProcessOutput, SandboxSpec

_PIECE = 65536
# As shells say it.
_TIMED_OUT, _NOT_STARTED = 124, 127


@dataclass(frozen=True)
class Place:
    """Where to run something.

    Attributes:
        sandbox_id: In this sandbox; None makes one for this alone.
        provider: Who makes it.
        template: What it is made of.
    """

    sandbox_id: str | None
    provider: str | None
    template: str


def execute(command: Sequence[str], place: Place, *, cwd: str | None, user: str | None, timeout: float | None) -> int:
    """Run a command in a sandbox, with its output and exit code passed through.

    Args:
        command: What to run, and its arguments.
        place: Where.
        cwd: The directory inside.
        user: `user` or `root`.
        timeout: Seconds; then it is ended.
    """

    async def question(sandboxes: Sandboxes) -> int:
        async with _sandbox(sandboxes, place, root=user == "root") as sandbox:
            stdin = not sys.stdin.isatty()
            try:
                process = await sandbox.processes.start(list(command), cwd=cwd, user=user, stdin=stdin)
            except InvalidInput as error:
                complain(error.detail, error.remedy)
                return _NOT_STARTED
            return await _to_its_end(process, timeout, stdin=stdin)

    return ask(question)


async def _to_its_end(process: Process, timeout: float | None, *, stdin: bool) -> int:
    try:
        async with asyncio.timeout(timeout):
            return await relay(process, stdin=stdin)
    except TimeoutError:
        complain(f"The command was ended after {timeout:g} s.", "Allow more with --timeout.")
        return _TIMED_OUT
    except asyncio.CancelledError:
        return EXIT_CANCELLED
    finally:
        await process.kill()
        await process.close()


def shell(place: Place) -> int:
    """Open a shell in a sandbox."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidInput("A shell needs a terminal.", "For a single command: orchestrion sandbox exec -- CMD")

    async def question(sandboxes: Sandboxes) -> int:
        from orchestrion.cli.terminal import attach

        new = place.sandbox_id is None
        root = new and (await sandboxes.capabilities(place.provider)).root
        async with _sandbox(sandboxes, place, root=root) as sandbox:
            return await attach(sandbox)

    return ask(question)


@asynccontextmanager
async def _sandbox(sandboxes: Sandboxes, place: Place, *, root: bool) -> AsyncIterator[Sandbox]:
    """Yield the sandbox that is meant, or one that ends when it's no longer needed."""
    if place.sandbox_id is not None:
        yield await sandboxes.open(place.sandbox_id, traffic=True)
        return
    spec = SandboxSpec(template=place.template, limits=sandboxes.limits, root=root)
    sandbox = await sandboxes.create(spec, provider=place.provider)
    try:
        yield sandbox
    finally:
        await asyncio.shield(sandboxes.remove(sandbox.id))


async def relay(process: Process, *, stdin: bool) -> int:
    """Pass output and input through until the process ends; return its exit code."""
    feeding = asyncio.create_task(_feed(process)) if stdin else None
    outputs = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer, "pty": sys.stdout.buffer}
    try:
        async for event in process.events():
            if isinstance(event, ProcessOutput):
                outputs[event.stream].write(event.data)
                outputs[event.stream].flush()
            elif isinstance(event, ProcessEnd):
                return event.exit_code
    finally:
        if feeding is not None:
            feeding.cancel()
    raise SandboxError("The sandbox did not say how the command ended.")


async def _feed(process: Process) -> None:
    """Send our standard input to the process, then its end."""
    async for piece in _input():
        await process.send(piece)
    await process.close_stdin()


async def _input() -> AsyncIterator[bytes]:
    kind = os.fstat(sys.stdin.fileno()).st_mode
    if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):  # a file or /dev/null, which an event loop can't wait for
        while piece := await asyncio.to_thread(sys.stdin.buffer.read, _PIECE):
            yield piece
        return
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while piece := await reader.read(_PIECE):
        yield piece
