"""A sandbox on this machine, reached over the unix socket on which its daemon listens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
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
def short_path(place: Path) -> Iterator[str]:
    """Give a short path to a socket: a unix socket's path may have only 107 bytes.

    Raises:
        OSError: Its directory is not there.
    """
    fd = os.open(place.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{place.name}"
    finally:
        os.close(fd)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection straight on asyncio: read in large pieces, and a request's head leaves with what follows it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._head: bytes | None = None
        self._begun = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        await self._send_head(timeout)
        self._begun = False
        with _errors(httpcore.ReadTimeout, httpcore.ReadError):
            async with asyncio.timeout(timeout):
                return await self._reader.read(max(max_bytes, _READ))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not self._begun:
            # The guest is woken once for a small request, not twice.
            self._begun, self._head = True, buffer
        elif buffer:
            head, self._head = self._head, None
            await self._send(head + buffer if head else buffer, timeout)

    async def _send_head(self, timeout: float | None) -> None:
        head, self._head = self._head, None
        if head:
            with contextlib.suppress(httpcore.WriteError):  # the answer says why, if there is one
                await self._send(head, timeout)

    async def _send(self, data: bytes, timeout: float | None) -> None:
        try:
            with _errors(httpcore.WriteTimeout, httpcore.WriteError):
                self._writer.write(data)
                async with asyncio.timeout(timeout):
                    await self._writer.drain()
        except httpcore.WriteError:
            # The guest answered and left before it had all: its answer has come, and is to be read all the same.
            self._reader.set_exception(None)  # type: ignore[arg-type]
            self._reader.feed_eof()
            raise

    async def aclose(self) -> None:
        self._writer.transport.abort()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._reader.at_eof() or _is_readable(self._writer.get_extra_info("socket"))
        return self._writer.get_extra_info(info)


@contextlib.contextmanager
def _errors(late: type[Exception], broken: type[Exception]) -> Iterator[None]:
    """Raise what httpcore's pool expects of a connection."""
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from None
    except OSError as error:
        raise broken(str(error)) from None


def _is_readable(connection: socket.socket | None) -> bool:
    """Say whether something, if only the end, can be read at once."""
    if connection is None or connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class _Backend(httpcore.AsyncNetworkBackend):
    """Leads every connection to one unix socket."""

    def __init__(self, place: Path) -> None:
        self._socket = place

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        with _errors(httpcore.ConnectTimeout, httpcore.ConnectError), short_path(self._socket) as short:
            async with asyncio.timeout(timeout):
                return _Stream(*await asyncio.open_unix_connection(short, limit=_READ))


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
