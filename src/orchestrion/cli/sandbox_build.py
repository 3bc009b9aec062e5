"""`orchestrion sandbox build`: a template made of files, a script and a command."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrion.cli.sandbox_run import relay
from orchestrion.cli.sandboxes import ask
from orchestrion.core.errors import InvalidInput, SandboxError
from orchestrion.sandbox import Sandbox, Sandboxes
from orchestrion.sandbox.protocols import Network, SandboxSpec

_BUILD_SECONDS = 3600


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
        code = await relay(process, stdin=False)
    finally:
        await process.kill()
        await process.close()
    if code:
        raise SandboxError(
            f"The build's step ended with exit code {code}; nothing was kept.", "Mend it and build again."
        )
