"""What comes from a sandbox, taken apart. A guest is not trusted: every piece is bounded and checked."""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
from datetime import datetime
from typing import Any, TypeAlias

import orjson

from orchestrion.core.errors import SandboxError

Message: TypeAlias = dict[str, Any]

MESSAGE = 64 * 1024 * 1024
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_HEADER = 5
END_OF_STREAM = 0x02


class Frames:
    """Cuts a Connect stream into frames: a byte of flags, four of length, a message."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def rest(self) -> int:
        """Bytes of a frame that is not complete."""
        return len(self._buffer)

    def feed(self, piece: bytes) -> list[tuple[int, bytes]]:
        """Take what came; return the frames that are complete, as flags and message.

        Raises:
            SandboxError: A frame is larger than allowed.
        """
        buffer = self._buffer
        buffer += piece
        at, frames = 0, []
        while len(buffer) - at >= _HEADER:
            flags, size = struct.unpack_from(">BI", buffer, at)
            if size > MESSAGE:
                raise SandboxError("The sandbox sent more in one piece than is allowed.")
            end = at + _HEADER + size
            if len(buffer) < end:
                break
            frames.append((flags, bytes(memoryview(buffer)[at + _HEADER : end])))
            at = end
        del buffer[:at]
        return frames


class Lines:
    """Cuts a stream into lines."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """Take what came; return the lines that are complete.

        Raises:
            SandboxError: A line is longer than allowed.
        """
        first, *rest = piece.split(b"\n")
        self._keep(first)
        if not rest:
            return []
        lines = [b"".join(self._parts), *rest[:-1]]
        self._parts, self._size = [], 0
        self._keep(rest[-1])
        return lines

    def _keep(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)
        if self._size > MESSAGE:
            raise SandboxError("The sandbox sent more in one piece than is allowed.")


def frame(message: Message) -> bytes:
    """Return a message as the only frame of a request."""
    body = orjson.dumps(message)
    return struct.pack(">BI", 0, len(body)) + body


def value_of(data: bytes) -> Any:
    """Read JSON.

    Raises:
        SandboxError: It isn't any.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:  # Python's own reader also takes lone surrogates, which a cell may well print
        return json.loads(data)
    except (ValueError, RecursionError):
        raise SandboxError("The sandbox sent what is not a message.") from None


def message_of(data: bytes) -> Message:
    """Read a JSON object.

    Raises:
        SandboxError: It isn't one.
    """
    return checked(value_of(data))


def checked(value: object) -> Message:
    """Return an object as one.

    Raises:
        SandboxError: It isn't one.
    """
    if not isinstance(value, dict):
        raise SandboxError("The sandbox sent what is not a message.")
    return value


def text_of(message: Message, key: str, default: str | None = None) -> str:
    """Return a text of a message, without the lone surrogates that no encoder downstream would take.

    Raises:
        SandboxError: It is not a text.
    """
    value = message.get(key, default)
    if not isinstance(value, str):
        raise SandboxError(f"The sandbox sent a message without `{key}`.")
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def whole_of(message: Message, key: str, default: int | None = None) -> int:
    """Return a whole number of a message; 64 bits wide ones travel as text.

    Raises:
        SandboxError: It is none.
    """
    value = message.get(key, default)
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise SandboxError(f"The sandbox sent a message without a number `{key}`.")
    return value


def real_of(message: Message, key: str) -> float:
    """Return a number of a message.

    Raises:
        SandboxError: It is none.
    """
    value = message.get(key, 0)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 2**63:
        raise SandboxError(f"The sandbox sent a message without a number `{key}`.")
    return float(value)


def bytes_of(message: Message, key: str) -> bytes:
    """Return the bytes that travel as base64.

    Raises:
        SandboxError: They don't.
    """
    value = message.get(key)
    try:
        return base64.b64decode(value, validate=True)  # type: ignore[arg-type]
    except (binascii.Error, TypeError, ValueError):
        raise SandboxError(f"The sandbox sent a message whose `{key}` is not base64.") from None


def time_of(message: Message, key: str) -> datetime:
    """Return a moment.

    Raises:
        SandboxError: It is none.
    """
    try:
        moment = datetime.fromisoformat(text_of(message, key))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise SandboxError(f"The sandbox sent a message without a time `{key}`.")
    return moment


def said(text: str) -> str:
    """Return a guest's words as part of a sentence: one short line that steers no terminal, without its full stop."""
    line = " ".join(text.encode("utf-8", "replace").decode().split())[:500]
    return "".join(letter for letter in line if letter.isprintable()).rstrip(". ")
