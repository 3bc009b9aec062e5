"""A WebSocket passed on to a service inside a sandbox."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from fastapi import WebSocket, WebSocketDisconnect
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, ProtocolError
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from orchestrion.core.errors import PortClosed
from orchestrion.sandbox.protocols import PortAddress

_PIECE = 256 * 1024
_MESSAGE = 16 * 1024 * 1024
_HANDSHAKE_SECONDS = 10
_NO_SERVICE = "The service inside speaks no WebSocket there."


class _Inside:
    """The connection to the service: the protocol is the library's, the bytes go over the sandbox's own way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: ClientProtocol) -> None:
        self._reader = reader
        self._writer = writer
        self.protocol = protocol
        self._message: list[bytes] = []
        self._text = False

    async def agree(self) -> None:
        """Do the handshake.

        Raises:
            PortClosed: The service does not agree.
        """
        self.protocol.send_request(self.protocol.connect())
        await self.flush()
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            while True:
                await self._feed()
                for event in self.protocol.events_received():
                    if isinstance(event, Response) and self.protocol.handshake_exc is None:
                        return
                if self.protocol.handshake_exc is not None or self._reader.at_eof():
                    raise PortClosed(_NO_SERVICE)

    async def _feed(self) -> None:
        data = await self._reader.read(_PIECE)
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        await self.flush()

    async def flush(self) -> None:
        """Write what the protocol wants written."""
        for data in self.protocol.data_to_send():
            if data:
                self._writer.write(data)
        await self._writer.drain()

    async def pass_on(self, websocket: WebSocket) -> None:
        """Give what the service sends to the client until one of them ends."""
        while not self._reader.at_eof():
            for event in self.protocol.events_received():
                if isinstance(event, Frame):
                    await self._take(event, websocket)
            if self.protocol.close_code is not None:
                break
            await self._feed()
        code = self.protocol.close_code or 1006
        await websocket.close(1001 if code in {1005, 1006, 1015} else code, self.protocol.close_reason or "")

    async def _take(self, frame: Frame, websocket: WebSocket) -> None:
        if frame.opcode not in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            return
        if frame.opcode is not Opcode.CONT:
            self._text = frame.opcode is Opcode.TEXT
        self._message.append(bytes(frame.data))
        if not frame.fin:
            return
        message, self._message = b"".join(self._message), []
        if self._text:
            await websocket.send_text(message.decode())
        else:
            await websocket.send_bytes(message)

    async def send(self, message: dict[str, object]) -> None:
        """Give what the client sends to the service."""
        text, data = message.get("text"), message.get("bytes")
        if isinstance(text, str):
            self.protocol.send_text(text.encode())
        elif isinstance(data, bytes):
            self.protocol.send_binary(data)
        await self.flush()

    def hang_up(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._writer.close()


async def splice(websocket: WebSocket, address: PortAddress, path: str) -> None:
    """Join a client's WebSocket to a service's.

    Args:
        websocket: The client's, not yet accepted.
        address: The port inside.
        path: Path and query that the service gets.

    Raises:
        PortClosed: Nothing listens there, or it speaks no WebSocket.
        SandboxGone: The sandbox is dead.
    """
    offered: Iterable[str] = websocket.scope.get("subprotocols", [])
    protocols = [Subprotocol(name) for name in offered if name != "orchestrion" and not name.startswith("bearer.")]
    uri = parse_uri(f"ws://{address.host}{path}")
    inside = _Inside(*await address.dial(), ClientProtocol(uri, subprotocols=protocols or None, max_size=_MESSAGE))
    try:
        try:
            await inside.agree()
        except (TimeoutError, OSError, InvalidHandshake, ProtocolError) as error:
            raise PortClosed(_NO_SERVICE) from error
        await websocket.accept(subprotocol=inside.protocol.subprotocol)
        await _converse(websocket, inside)
    finally:
        inside.hang_up()


async def _converse(websocket: WebSocket, inside: _Inside) -> None:
    tasks = [asyncio.create_task(inside.pass_on(websocket)), asyncio.create_task(_listen(websocket, inside))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(websocket: WebSocket, inside: _Inside) -> None:
    with contextlib.suppress(WebSocketDisconnect, OSError):
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                inside.protocol.send_close(message.get("code") or 1000)
                await inside.flush()
                return
            await inside.send(dict(message))
