"""Name look-ups in threads of their own, so that a sandbox that asks for slow names holds up nothing else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]

_THREADS = 16


class Resolver:
    """Asks the host's own resolver."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="gateway-dns")

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return a host's addresses, in the order in which they should be tried.

        Raises:
            OSError: There are none.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except UnicodeError as error:
            raise OSError(str(error)) from None
        return [str(entry[4][0]) for entry in found]

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)
