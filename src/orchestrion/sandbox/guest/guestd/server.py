"""The HTTP/1.1 server: where it listens, whom it serves."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping

from .connection import Connection
from .http import Handler

_BACKLOG = 256


class Server:
    """Serves one handler on any number of sockets.

    Args:
        handler: Answers every request.
        banner: Headers of every response.

    Attributes:
        last: When the last request ended, in seconds of the monotonic clock.
    """

    def __init__(self, handler: Handler, banner: Mapping[str, str]) -> None:
        self._handler, self._banner = handler, banner
        self._servers: list[asyncio.Server] = []
        self._busy: dict[Connection, int] = {}
        self.last = time.monotonic()

    @property
    def active(self) -> int:
        """How many requests are being answered."""
        return len(self._busy)

    async def listen_unix(self, listener: socket.socket) -> None:
        """Serve the host on a listening unix socket: its peers are trusted."""
        loop = asyncio.get_running_loop()
        make = self._maker(trusted=True, port=0)
        self._servers.append(await loop.create_unix_server(make, sock=listener, backlog=_BACKLOG))

    async def listen_tcp(self, host: str, port: int) -> int:
        """Serve anybody on a TCP port; return which it is (for port 0)."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._maker(trusted=False, port=port), host, port, backlog=_BACKLOG)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Stop listening."""
        for server in self._servers:
            server.close()

    def _maker(self, *, trusted: bool, port: int) -> Callable[[], Connection]:
        def make() -> Connection:
            return Connection(self._handler, self._count, trusted=trusted, port=port, banner=self._banner)

        return make

    def _count(self, connection: Connection, change: int) -> None:
        if change > 0:
            self._busy[connection] = 1
        else:
            self._busy.pop(connection, None)
        self.last = time.monotonic()
