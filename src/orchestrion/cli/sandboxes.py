"""`orchestrion sandbox …`: the sandboxes of this data directory."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orchestrion.cli.errors import EXIT_CANCELLED, complain
from orchestrion.cli.options import print_json
from orchestrion.cli.quiet import calm_logs
from orchestrion.cli.table import print_table
from orchestrion.cli.text import ago
from orchestrion.core.errors import InvalidInput, OrchestrionError, SandboxError
from orchestrion.core.settings import load_settings
from orchestrion.sandbox import Sandbox, Sandboxes
from orchestrion.sandbox.protocols import Network, Process, ProcessEnd, ProcessOutput, SandboxSpec
from orchestrion.sandbox.registry import Held

T = TypeVar("T")
_PIECE = 65536
_BUILD_SECONDS = 3600
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


@dataclass(frozen=True)
class Recipe:
    """How a template is made.

    Attributes:
        name: What to call it; taking a name again moves it.
        base: The template to start from.
        copies: `SOURCE:DESTINATION` pairs.
        script: A script on this machine, run inside by bash as root.
        command: A command to run inside after that.
        registries: Whether the build may reach the package registries.
    """

    name: str
    base: str
    copies: Sequence[str]
    script: Path | None
    command: Sequence[str]
    registries: bool


def ask(question: Callable[[Sandboxes], Awaitable[T]]) -> T:
    """Do something with the sandboxes of this data directory."""

    async def _ask() -> T:
        settings = load_settings()
        calm_logs(settings)
        sandboxes = Sandboxes(settings)
        try:
            return await question(sandboxes)
        finally:
            await sandboxes.aclose()

    return asyncio.run(_ask())


def as_record(held: Held) -> dict[str, Any]:
    """Return a sandbox for JSON."""
    spec = held.info.spec
    return {
        "id": held.info.id,
        "provider": held.info.provider,
        "state": held.info.state,
        "session_id": spec.session_id,
        "template": spec.template,
        "created_at": held.info.created_at.isoformat(),
        "ends_at": held.ends_at.isoformat() if held.ends_at else None,
        "on_timeout": held.on_timeout,
        "metadata": dict(spec.metadata),
    }


def list_sandboxes(*, as_json: bool) -> None:
    """Print the sandboxes."""
    held = ask(lambda sandboxes: sandboxes.all())
    if as_json:
        print_json([as_record(one) for one in held])
    elif not held:
        print(
            "No sandboxes. One is made by the first tool call that needs it, or by: orchestrion sandbox exec -- CMD"
        )
    else:
        print_table(("SANDBOX", "STATE", "PROVIDER", "CREATED", "TEMPLATE", "SESSION"), [_row(one) for one in held])


def _row(held: Held) -> tuple[str, ...]:
    info = held.info
    return (
        info.id,
        info.state,
        info.provider,
        ago(info.created_at),
        info.spec.template,
        info.spec.session_id or "–",
    )


def pause(sandbox_id: str, *, memory: bool) -> None:
    """Pause a sandbox."""
    ask(lambda sandboxes: sandboxes.pause(sandbox_id, memory=memory))
    print(f"Paused {sandbox_id}.")


def resume(sandbox_id: str) -> None:
    """Resume a sandbox."""
    ask(lambda sandboxes: sandboxes.resume(sandbox_id))
    print(f"{sandbox_id} runs.")


def fork(sandbox_id: str, count: int, *, as_json: bool) -> int:
    """Copy a sandbox; print the copies' ids."""
    made = ask(lambda sandboxes: sandboxes.fork(sandbox_id, count=count))
    failed = [one for one in made if isinstance(one, OrchestrionError)]
    ids = [one.id for one in made if not isinstance(one, OrchestrionError)]
    if as_json:
        print_json({"sandboxes": ids, "errors": [str(error) for error in failed]})
    else:
        for one in ids:
            print(one)
        for error in failed:
            print(str(error), file=sys.stderr)
    return 1 if failed else 0


def kill(sandbox_ids: Sequence[str]) -> None:
    """End sandboxes and forget them."""

    async def question(sandboxes: Sandboxes) -> None:
        for sandbox_id in sandbox_ids:
            await sandboxes.remove(sandbox_id)
            print(f"Ended {sandbox_id}.")

    ask(question)


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
            return await _relay(process, stdin=stdin)
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


def build(recipe: Recipe) -> int:
    """Make a template: files copied in, a script and a command run, the file system kept."""
    copies = [_pair(copy) for copy in recipe.copies]

    async def question(sandboxes: Sandboxes) -> int:
        spec = SandboxSpec(
            template=recipe.base, limits=sandboxes.limits, root=True, network=Network(registries=recipe.registries)
        )
        sandbox = await sandboxes.create(spec, seconds=_BUILD_SECONDS)
        try:
            await _fill(sandbox, recipe, copies)
            kept = await sandboxes.snapshot(sandbox.id, recipe.name)
        finally:
            await asyncio.shield(sandboxes.remove(sandbox.id))
        print(f"Template {kept.id} is ready ({kept.size / 1e6:.1f} MB).")
        print(f"Try it: orchestrion sandbox exec --template {recipe.name} -- CMD")
        return 0

    return ask(question)


async def _fill(sandbox: Sandbox, recipe: Recipe, copies: Sequence[tuple[Path, str]]) -> None:
    for source, destination in copies:
        print(f"copy {source} → {destination}", flush=True)
        await sandbox.files.write(destination, await asyncio.to_thread(source.read_bytes))
    if recipe.script is not None:
        await sandbox.files.write("build.sh", await asyncio.to_thread(recipe.script.read_bytes))
        await _step(sandbox, ["/bin/bash", "-e", "build.sh"])
        await sandbox.files.remove("build.sh")
    if recipe.command:
        await _step(sandbox, recipe.command)


def _pair(copy: str) -> tuple[Path, str]:
    source, _, destination = copy.partition(":")
    if not destination or not Path(source).is_file():
        raise InvalidInput(
            f"{copy!r} names no file to copy.", "Write --copy SOURCE:DESTINATION with a file that exists."
        )
    return Path(source), destination


async def _step(sandbox: Sandbox, command: Sequence[str]) -> None:
    print(f"run {' '.join(command)}", flush=True)
    process = await sandbox.processes.start(list(command), user="root", cwd="/home/user")
    try:
        code = await _relay(process, stdin=False)
    finally:
        await process.kill()
        await process.close()
    if code:
        raise SandboxError(
            f"The build's step ended with exit code {code}; nothing was kept.", "Mend it and build again."
        )


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


async def _relay(process: Process, *, stdin: bool) -> int:
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
