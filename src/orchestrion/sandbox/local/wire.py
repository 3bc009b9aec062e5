"""The wire to the guest. The guest is not trusted: what comes over it is bounded and checked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from orchestrion.core.errors import SandboxError, SandboxGone
from orchestrion.sandbox.local.launch import socket_path

LINE = 8 * 1024 * 1024
_BUFFER = 64 * 1024
_CONNECT = 5
# The guest means to be done within two seconds; on a busy machine it gets one more before it is ended as a whole.
_CANCEL = 3


class Connection:
    """One connection, which carries one request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parts: list[bytes] = []

    @classmethod
    async def open(cls, run: Path) -> Connection:
        """Connect to the guest whose socket is in `run`.

        Raises:
            SandboxGone: Nobody answers there.
        """
        try:
            with socket_path(run) as path:
                async with asyncio.timeout(_CONNECT):
                    return cls(*await asyncio.open_unix_connection(path, limit=_BUFFER))
        except (OSError, TimeoutError):
            raise SandboxGone("The sandbox has ended.", "The next request makes a new one.") from None

    async def send(self, message: dict[str, object]) -> None:
        """Send a message."""
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()
        except OSError:
            raise _gone() from None

    async def receive(self, within: float) -> dict[str, Any]:
        """Return the next message.

        Raises:
            SandboxGone: The sandbox died, or did not answer in time.
            SandboxError: What came is no message, or an oversized one.
        """
        try:
            # Not wait_for: in Python 3.11 it can swallow a cancel that comes together with data.
            async with asyncio.timeout(within):
                return parse(await self._line())
        except (OSError, EOFError, TimeoutError):
            raise _gone() from None

    async def _line(self) -> bytes:
        """Return the next line.

        The reader's own buffer stays small, so that a guest is held back soon when its output isn't taken; the few
        long lines are put together here, where a cancelled call leaves them for the reading that settles it.
        """
        while sum(map(len, self._parts)) < LINE:
            try:
                self._parts.append(await self._reader.readuntil(b"\n"))
            except asyncio.LimitOverrunError as over:
                self._parts.append(await self._reader.readexactly(over.consumed))
            else:
                line = b"".join(self._parts)
                self._parts.clear()
                return line
        raise SandboxError("The sandbox sent more in one piece than is allowed.")

    async def cancel(self) -> bool:
        """End what the request started; say whether the guest confirmed it in time."""
        try:
            async with asyncio.timeout(_CANCEL):
                await self.send({"op": "cancel"})
                while (await self.receive(_CANCEL)).get("type") not in ("cancelled", "done", "failed"):
                    pass
        except (TimeoutError, SandboxError):
            return False
        return True

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._writer.close()


def _gone() -> SandboxGone:
    return SandboxGone("The sandbox died in the middle of a call.", "The next request makes a new one.")


def parse(line: bytes) -> dict[str, Any]:
    """Read one message.

    Raises:
        SandboxError: It isn't one.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise SandboxError("The sandbox sent what is not a message.")
    return message


def text_of(message: dict[str, Any], key: str) -> str:
    """Return a text of a message, without the lone surrogates that no encoder downstream would take.

    Raises:
        SandboxError: It is not a text.
    """
    value = message.get(key)
    if not isinstance(value, str):
        raise SandboxError(f"The sandbox sent a message without `{key}`.")
    return value.encode("utf-8", "replace").decode()
