"""A CONNECT tunnel: TLS goes through it end to end; only the name that the client shows in its hello is read."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from contextlib import suppress

from orchestrion.sandbox.gateway.client_hello import UNRECOGNIZED_NAME, Incomplete, NotTls, server_name
from orchestrion.sandbox.gateway.dialler import Line
from orchestrion.sandbox.gateway.limits import GatewayLimits
from orchestrion.sandbox.gateway.peer import Gone, Peer, write
from orchestrion.sandbox.gateway.policy import Policy, Refusal

_PIECE = 64 * 1024


class Tunnel:
    """Carries bytes both ways until one side is done, nothing moves, or it is cut.

    Args:
        peer: The sandbox's side; it was told that the tunnel stands.
        line: The outside.
        policy: Returns the rules as they stand.
        limits: The bounds.

    Attributes:
        bytes_in: What came from outside.
        bytes_out: What went out.
    """

    def __init__(self, peer: Peer, line: Line, policy: Callable[[], Policy], limits: GatewayLimits) -> None:
        self._peer = peer
        self._line = line
        self._policy = policy
        self._limits = limits
        self._moved = asyncio.get_running_loop().time()
        self.bytes_in = 0
        self.bytes_out = 0

    async def carry(self, first: bytes) -> None:
        """Carry until the end.

        Args:
            first: What the client sent behind its CONNECT.

        Raises:
            Refusal: The client's hello names another host than its CONNECT did.
        """
        inward, outward = asyncio.ensure_future(self._inward()), asyncio.ensure_future(self._outward(first))
        idle = asyncio.ensure_future(self._idle())
        try:
            done = {inward, outward}
            while done and not idle.done():
                ended, _ = await asyncio.wait({*done, idle}, return_when=asyncio.FIRST_COMPLETED)
                for task in ended - {idle}:
                    task.result()
                    done.discard(task)
        except Gone:
            pass
        finally:
            for task in (inward, outward, idle):
                task.cancel()
            await asyncio.gather(inward, outward, idle, return_exceptions=True)

    async def _inward(self) -> None:
        while data := await _read(self._line.reader):
            await write(self._peer.writer, data, self._limits.idle_seconds)
            self.bytes_in += len(data)
            self._moved = asyncio.get_running_loop().time()
        _half_close(self._peer.writer)

    async def _outward(self, first: bytes) -> None:
        data = await self._opening(first)
        while data:
            await write(self._line.writer, data, self._limits.idle_seconds)
            self.bytes_out += len(data)
            self._moved = asyncio.get_running_loop().time()
            data = await _read(self._peer.reader)
        _half_close(self._line.writer)

    async def _opening(self, data: bytes) -> bytes:
        """Return the client's first bytes once its hello is found to name the host it dialled."""
        try:
            async with asyncio.timeout(self._limits.head_seconds if self._must_be_tls else None):
                while True:
                    try:
                        name = server_name(data) if data else None
                    except Incomplete:
                        name = None
                    else:
                        if data:
                            break
                    more = await _read(self._peer.reader)
                    if not more:
                        return data if not self._must_be_tls else b""
                    data += more
        except NotTls:
            if self._must_be_tls:
                raise Refusal("Only TLS goes through a tunnel to port 443 or 80.") from None
            return data
        except TimeoutError:
            raise Gone from None
        await self._check(name)
        return data

    async def _check(self, name: str | None) -> None:
        permit = self._line.permit
        try:
            if _is_address(permit.host):
                if name is not None:
                    self._policy().refuse_name(name.removesuffix("."), permit.port)
            elif name is None:
                raise Refusal(f"The TLS handshake with {permit.host} names no host.")
            elif name.removesuffix(".") != permit.host:
                raise Refusal(f"The TLS handshake with {permit.host} names another host, {name[:100]}.")
        except Refusal:
            with suppress(Gone):
                await write(self._peer.writer, UNRECOGNIZED_NAME, 1)
            raise

    @property
    def _must_be_tls(self) -> bool:
        """Ports that a rule names may carry anything; the web's own carry TLS, for plain HTTP has another way."""
        return self._line.permit.port in {80, 443}

    async def _idle(self) -> None:
        loop = asyncio.get_running_loop()
        while (left := self._moved + self._limits.idle_seconds - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(_PIECE)
    except OSError:
        raise Gone from None


def _half_close(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, RuntimeError):
        if writer.can_write_eof():
            writer.write_eof()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
