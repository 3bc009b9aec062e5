"""Start real processes for a bench and wait until they say that they are ready."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_READY_SECONDS = 60.0


def orchestrion() -> str:
    """Return the `orchestrion` command of this environment."""
    return str(Path(sys.executable).with_name("orchestrion"))


@asynccontextmanager
async def running(
    command: list[str], ready: str, environment: Mapping[str, str] | None = None, log: Path | None = None
) -> AsyncIterator[str]:
    """Run a command; yield the first group of the pattern `ready` once a line of its output matches.

    Args:
        command: Program and arguments.
        ready: Pattern of the line that says it is ready.
        environment: Variables on top of this process's own.
        log: Where its error output goes; None discards it.
    """
    with open(log or os.devnull, "wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, **(environment or {})}, stdout=asyncio.subprocess.PIPE, stderr=errors
        )
        drain: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(_READY_SECONDS):
                found = await _wait(process, ready, log)
            drain = asyncio.create_task(_discard(process))
            yield found
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 15)
            except TimeoutError:
                process.kill()
                await process.wait()
            if drain:
                await drain


async def _wait(process: asyncio.subprocess.Process, ready: str, log: Path | None) -> str:
    assert process.stdout
    while line := await process.stdout.readline():
        if match := re.search(ready, line.decode(errors="replace")):
            return match[1]
    said = log.read_text(errors="replace")[-2000:] if log and log.exists() else ""
    raise RuntimeError(f"the process ended before it was ready\n{said}")


async def _discard(process: asyncio.subprocess.Process) -> None:
    assert process.stdout
    while await process.stdout.read(65536):
        pass
