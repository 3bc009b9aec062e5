"""A sandbox on this machine, reached over the unix socket on which its daemon listens."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpcore

from orchestrion.core.errors import PortClosed
from orchestrion.sandbox.client.failures import gone
from orchestrion.sandbox.client.transport import CONNECT_SECONDS, Body, Pool, Reply, head_of
from orchestrion.sandbox.protocols import CODE_PORT, ENVD_PORT, PortAddress

_DIRECT = (ENVD_PORT, CODE_PORT)
_READ = 1024 * 1024


@contextlib.contextmanager
def short_path(socket: Path) -> Iterator[str]:
    """Give a short path to a socket: a unix socket's path may have only 107 bytes.

    Raises:
        OSError: Its directory is not there.
    """
    fd = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{socket.name}"
    finally:
        os.close(fd)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that is read in larger pieces than httpcore asks for."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._inner.read(max(max_bytes, _READ), timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.AnyIOBackend):
    """Leads every connection to one unix socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            with short_path(self._socket) as short:
                return _Stream(await super().connect_unix_socket(short, timeout, socket_options))
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from None


class UnixTransport:
    """Implements `Transport`. envd and the code interpreter answer on the socket itself, other ports by CONNECT.

    Args:
        socket_path: The guest's listening socket.
    """

    ours = True

    def __init__(self, socket_path: Path) -> None:
        self._socket = socket_path
        self._pool = Pool(_Backend(socket_path), gone, uds=socket_path.name)

    def address(self, port: int) -> PortAddress:
        """Say how a port is reached."""
        return PortAddress(f"localhost:{port}", _headers(port), lambda: self._dial(port), self._pool.lifecycle)

    async def send(
        self, port: int, method: str, target: str, headers: Mapping[str, str], body: Body | None = None
    ) -> Reply:
        """Send a request to envd or the code interpreter; see `Transport.send`."""
        url = httpcore.URL(scheme=b"http", host=b"localhost", port=port, target=target.encode("ascii"))
        return await self._pool.send(url, method, {**headers, **_headers(port)}, body)

    async def aclose(self) -> None:
        """Break every connection."""
        await self._pool.aclose()

    async def _dial(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            with short_path(self._socket) as path:
                async with asyncio.timeout(CONNECT_SECONDS):
                    reader, writer = await asyncio.open_unix_connection(path)
        except (OSError, TimeoutError):
            raise gone() from None
        if port not in _DIRECT:
            try:
                await self._tunnel(port, reader, writer)
            except BaseException:
                writer.close()
                raise
        return reader, writer

    async def _tunnel(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        if await head_of(reader) != 200:
            raise PortClosed(f"Nothing listens on port {port} in the sandbox.", "Start the server first.")


def _headers(port: int) -> dict[str, str]:
    return {"Host": f"localhost:{port}", "E2b-Sandbox-Port": str(port)}
