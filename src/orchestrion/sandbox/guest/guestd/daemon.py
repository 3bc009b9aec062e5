"""The daemon: process 1 of the sandbox.

It takes requests from the host over a listening unix socket that it inherits, so nothing inside the sandbox can
reach, replace or remove that socket. One connection carries one request: a line of JSON in, then lines of JSON out
until `done`, `failed`, `cancelled` or `pong`. The line `{"op": "cancel"}`, or the end of the connection, ends what
the request started.

As process 1 it can't be killed from inside, and when it ends the kernel ends every other process with it. Nor can
code inside reach into its memory or descriptors, though it is the same user's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from typing import Any

from .commands import Command
from .kernel_host import KernelHost
from .limits import GuestLimits, apply_limits
from .memory import enforce_memory
from .seccomp import apply_filter, set_dumpable
from .supervisor import Supervised, reap

_LINE = 8 * 1024 * 1024
_TICK = 0.3


class Daemon:
    """Serves the host until nobody has asked for anything for a while.

    Args:
        limits: What the sandbox may use.
        idle_seconds: It ends after so long without a request.
    """

    def __init__(self, limits: GuestLimits, idle_seconds: float) -> None:
        self._limits = limits
        self._idle_seconds = idle_seconds
        self._running: set[Supervised] = set()
        self._kernel = KernelHost(limits, self._running)
        self._active = 0
        self._last = time.monotonic()

    async def serve(self, listener: socket.socket) -> None:
        """Accept connections until idle, or until the session is deleted."""
        server = await asyncio.start_unix_server(self._connection, sock=listener, limit=_LINE)
        await self._kernel.prepare()
        await self._watch()
        server.close()

    async def _watch(self) -> None:
        while self._active or (time.monotonic() - self._last < self._idle_seconds and _has_workspace()):
            enforce_memory(self._limits.memory_mb * 1024, self._running)
            reap()
            await asyncio.sleep(_TICK)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._active += 1
        try:
            with contextlib.suppress(OSError, ValueError):
                line = await reader.readline()
                if line:
                    await self._converse(json.loads(line), reader, writer)
        finally:
            self._active -= 1
            self._last = time.monotonic()
            writer.close()

    async def _converse(
        self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async def send(message: dict[str, object]) -> None:
            writer.write(json.dumps(message).encode() + b"\n")
            await writer.drain()

        work = asyncio.create_task(self._answer(request, send))
        stop = asyncio.create_task(reader.readline())
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
        await send({"type": "cancelled"} if work.cancelled() else work.result())

    async def _answer(self, request: dict[str, Any], send: Any) -> dict[str, object]:
        try:
            match request["op"]:
                case "ping":
                    return {"type": "pong"}
                case "run_code":
                    return await self._kernel.run(request, send)
                case "run_command":
                    return await Command(self._limits, self._running).run(request, send)
                case other:
                    return {"type": "failed", "message": f"no such request: {other}"}
        except (OSError, ValueError) as error:
            return {"type": "failed", "message": str(error)}


def _has_workspace() -> bool:
    """Say whether the session's directory still exists on the host; a sandbox doesn't outlive its session."""
    return os.stat("/workspace").st_nlink > 0


def main() -> None:
    """Serve the listening socket and the limits that the first argument, JSON, names."""
    config = json.loads(sys.argv[1])
    limits = GuestLimits.from_config(config)
    os.umask(0o022)
    apply_limits(limits)
    apply_filter()
    set_dumpable(False)
    listener = socket.socket(fileno=int(config["listener"]))
    listener.set_inheritable(False)
    asyncio.run(Daemon(limits, float(config["idle_seconds"])).serve(listener))


if __name__ == "__main__":
    main()
    os._exit(0)
