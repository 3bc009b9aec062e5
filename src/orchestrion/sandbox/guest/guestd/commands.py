"""Shell commands."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from .limits import GuestLimits
from .pump import Send, output_pipes
from .supervisor import Launch, Supervised, describe_status

TIMED_OUT = 124


class Command:
    """One shell command: started, watched, and ended together with all that it started.

    Args:
        limits: What its processes may use.
        running: The list of what runs now, in which the memory watch looks for whom it hit.
    """

    def __init__(self, limits: GuestLimits, running: set[Supervised]) -> None:
        self._limits = limits
        self._running = running

    async def run(self, request: dict[str, Any], send: Send) -> dict[str, object]:
        """Run it; cancelling this kills it and every process it started."""
        out, err, out_fd, err_fd = output_pipes()
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            argv = ["/bin/sh", "-c", str(request["command"])]
            launch = Launch(argv, str(request["cwd"]), {0: null, 1: out_fd, 2: err_fd}, self._limits)
            program = await Supervised.start(launch)
        except OSError:
            out.close()
            err.close()
            raise
        finally:
            for fd in (null, out_fd, err_fd):
                os.close(fd)
        out.listen(send)
        err.listen(send)
        self._running.add(program)
        try:
            status = await self._wait(program, float(request["timeout"]))
        finally:
            self._running.discard(program)
        await out.finish(send)
        await err.finish(send)
        return await self._result(program, status, send)

    async def _wait(self, program: Supervised, seconds: float) -> int | None:
        """Return its wait status, or None if its time ran out."""
        try:
            async with asyncio.timeout(seconds):
                return await program.wait()
        except TimeoutError:
            await end_or_die(program)
            return None
        except asyncio.CancelledError:
            await end_or_die(program)
            raise

    async def _result(self, program: Supervised, status: int | None, send: Send) -> dict[str, object]:
        if program.out_of_memory:
            text = f"\n[killed: over the sandbox's memory limit of {self._limits.memory_mb} MiB]\n"
            await send({"type": "output", "stream": "stderr", "text": text})
        code = TIMED_OUT if status is None else describe_status(status)[0]
        return {"type": "done", "exit_code": code, "timed_out": status is None}


async def end_or_die(program: Supervised) -> None:
    """Kill a program with its family. What can't be killed in time takes the sandbox with it, rather than live on."""
    if not await program.kill():
        os._exit(1)
