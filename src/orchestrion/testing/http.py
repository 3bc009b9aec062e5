"""A small HTTP/1.1 connection for the stand-in: exact control over pauses, pieces and broken connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

_BODY_LIMIT = 256 * 1024 * 1024
_IDLE_SECONDS = 120.0


class Disconnected(Exception):
    """The client went away."""


@dataclass(frozen=True)
class HttpRequest:
    """A request as it came in; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """One client's connection, kept alive between requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> HttpRequest | None:
        """Return the next request, or None when the client is done."""
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = head.split("\r\n")
                method, target, _ = lines[0].split(" ", 2)
                pairs = (line.split(":", 1) for line in lines[1:] if ":" in line)
                headers = {name.strip().lower(): value.strip() for name, value in pairs}
                length = int(headers.get("content-length", "0"))
                if length > _BODY_LIMIT:
                    return None
                body = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ValueError, OSError):
            return None
        return HttpRequest(method, target.split("?", 1)[0], headers, body)

    async def send_json(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """Send a JSON document.

        Raises:
            Disconnected: The client went away.
        """
        content = json.dumps(body, ensure_ascii=False).encode()
        fields = {"content-type": "application/json", "content-length": str(len(content)), **(headers or {})}
        await self._write(self._head(status, fields) + content)

    async def start_stream(self) -> None:
        """Begin a stream of server-sent events.

        Raises:
            Disconnected: The client went away.
        """
        fields = {"content-type": "text/event-stream", "cache-control": "no-store", "transfer-encoding": "chunked"}
        await self._write(self._head(200, fields))

    async def send_piece(self, data: bytes) -> None:
        """Send one piece of the stream.

        Raises:
            Disconnected: The client went away.
        """
        await self._write(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        """End the stream as it should end.

        Raises:
            Disconnected: The client went away.
        """
        await self._write(b"0\r\n\r\n")

    async def pause(self, seconds: float) -> None:
        """Wait, but notice at once when the client goes away.

        Raises:
            Disconnected: It did.
        """
        if seconds <= 0:
            return
        try:
            # A client sends nothing while it waits for its answer: the only thing to read here is the end.
            await asyncio.wait_for(self._reader.read(1), seconds)
        except TimeoutError:
            return
        except OSError:
            pass
        raise Disconnected

    def abort(self) -> None:
        """Break the connection off, in the middle of whatever is being sent."""
        self._writer.transport.abort()

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    @staticmethod
    def _head(status: int, fields: Mapping[str, str]) -> bytes:
        phrase = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else "Status"
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    async def _write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise Disconnected from error
