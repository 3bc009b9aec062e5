"""The way out: a TCP port inside that leads to the host's gateway, for programs that know no unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os

PORT = 3128
GATEWAY = "/run/orchestrion/gateway.sock"
_PIECE = 256 * 1024
_CONNECT_SECONDS = 10
_HALF_SECONDS = 640


async def forward(gateway: str = GATEWAY, port: int = PORT) -> asyncio.Server | None:
    """Serve the port; None where there is no gateway."""
    if not _is_mounted(gateway):
        return None

    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _join(gateway, reader, writer)

    return await asyncio.start_server(joined, "127.0.0.1", port, limit=_PIECE)


def _is_mounted(gateway: str) -> bool:
    """Say whether the provider gave the sandbox a way out; the socket itself may come later."""
    return os.path.isdir(os.path.dirname(gateway))


async def _join(gateway: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            far_reader, far_writer = await asyncio.open_unix_connection(gateway, limit=_PIECE)
    except (OSError, TimeoutError):
        body = b"The host's gateway does not answer.\n"
        head = b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        with contextlib.suppress(OSError):
            writer.write(head + body)
            await writer.drain()
        writer.close()
        return
    await join((reader, writer), (far_reader, far_writer))


async def join(
    one: tuple[asyncio.StreamReader, asyncio.StreamWriter], other: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    """Pass on what either side sends until both are done, or one is and the other silent for long."""
    ways = {asyncio.ensure_future(_pass(one[0], other[1])), asyncio.ensure_future(_pass(other[0], one[1]))}
    try:
        _, open_ways = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if open_ways:
            await asyncio.wait(open_ways, timeout=_HALF_SECONDS)
    finally:
        for way in ways:
            way.cancel()
        for writer in (one[1], other[1]):
            writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
