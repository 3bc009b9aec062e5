"""Connections to ports inside sandboxes, kept for the next request where that is safe."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict
from dataclasses import dataclass, field

from orchestrion.core.errors import SandboxGone
from orchestrion.sandbox.protocols import CODE_PORT, ENVD_PORT, PortAddress

_DIAL_SECONDS = 10
_KEPT = 16
_KEPT_SECONDS = 60
# Only our own daemon is known to leave an idle connection open for longer than we keep it.
OWN_PORTS = frozenset((ENVD_PORT, CODE_PORT))


@dataclass(eq=False)
class Connection:
    """A byte stream to a port inside."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: float = 0

    def abort(self) -> None:
        """Break it."""
        self.writer.transport.abort()

    @property
    def usable(self) -> bool:
        """Whether it can take another request."""
        fresh = time.monotonic() - self.idle_since < _KEPT_SECONDS
        return fresh and not (self.reader.at_eof() or self.writer.is_closing())


@dataclass
class Pool:
    """Connections that wait for the next request. One from before a pause is never used again."""

    _idle: dict[tuple[str, int], list[Connection]] = field(default_factory=lambda: defaultdict(list))
    _lifecycle: dict[str, str] = field(default_factory=dict)

    def take(self, sandbox_id: str, port: int, address: PortAddress) -> Connection | None:
        """Return one that is open, or None."""
        if self._lifecycle.get(sandbox_id) != address.lifecycle:
            self.drop(sandbox_id)
            self._lifecycle[sandbox_id] = address.lifecycle
        waiting = self._idle.get((sandbox_id, port), [])
        while waiting:
            connection = waiting.pop()
            if connection.usable:
                return connection
            connection.abort()
        return None

    def give(self, sandbox_id: str, port: int, address: PortAddress, connection: Connection) -> None:
        """Keep one for the next request, if it may be kept."""
        same = self._lifecycle.get(sandbox_id) == address.lifecycle
        waiting = self._idle[sandbox_id, port] if port in OWN_PORTS and same else None
        if waiting is None or len(waiting) >= _KEPT:
            connection.abort()
            return
        connection.idle_since = time.monotonic()
        waiting.append(connection)

    def drop(self, sandbox_id: str) -> None:
        """Close all of one sandbox."""
        self._lifecycle.pop(sandbox_id, None)
        for key in [key for key in self._idle if key[0] == sandbox_id]:
            for connection in self._idle.pop(key):
                connection.abort()

    def close(self) -> None:
        """Close all."""
        for key in list(self._idle):
            self.drop(key[0])


async def dial(address: PortAddress, *, tls: bool = False) -> Connection:
    """Open a connection.

    Args:
        address: Where to.
        tls: The port speaks TLS; its certificate is not looked at, as nobody vouches for one inside.

    Raises:
        SandboxGone: The sandbox is dead.
        PortClosed: Nothing listens there.
    """
    try:
        async with asyncio.timeout(_DIAL_SECONDS):
            connection = Connection(*await address.dial())
            if tls:
                await connection.writer.start_tls(_unchecked(), server_hostname="localhost")
    except (TimeoutError, OSError) as error:
        raise SandboxGone("The sandbox does not answer.") from error
    return connection


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
