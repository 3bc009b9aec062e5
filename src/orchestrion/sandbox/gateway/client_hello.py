"""Reads the server name out of a TLS ClientHello (RFC 8446 4.1.2, RFC 6066 3), and nothing else of TLS."""

from __future__ import annotations

from collections.abc import Iterator

LONGEST = 32 * 1024
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 22, 1, 0, 0
# A fatal alert, `unrecognized_name`: what a server answers to a name that is not its own.
UNRECOGNIZED_NAME = bytes((21, 3, 3, 0, 2, 2, 112))


class Incomplete(Exception):
    """More bytes are needed."""


class NotTls(Exception):
    """These bytes begin no TLS handshake."""


class _Reader:
    """Takes fields off the front of a message."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise NotTls
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Take a field that says its own length in `size` bytes."""
        return self.take(self.number(size))


def server_name(data: bytes) -> str | None:
    """Return the name that a client asks for, in lower case; None if it names none.

    Args:
        data: What the client has sent so far, from its first byte.

    Raises:
        Incomplete: The message is not all there yet.
        NotTls: It is something else, malformed, or longer than `LONGEST`.
    """
    hello = _Reader(_client_hello(data))
    hello.take(2 + 32)  # version, random
    hello.vector(1)  # session
    hello.vector(2)  # cipher suites
    hello.vector(1)  # compression
    if not hello.left:
        return None
    names = [body for kind, body in _extensions(hello.vector(2)) if kind == _SERVER_NAME]
    if len(names) > 1:
        raise NotTls
    return _host_name(names[0]) if names else None


def _client_hello(data: bytes) -> bytes:
    """Join the handshake's records and return the body of its first message."""
    message, at = bytearray(), 0
    while True:
        if data[at : at + 1] not in (b"", bytes((_HANDSHAKE,))) or data[at + 1 : at + 2] not in (b"", b"\x03"):
            raise NotTls
        if at > LONGEST:
            raise NotTls
        if len(data) < at + 5:
            raise Incomplete
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if not 0 < length <= 16384 + 256:
            raise NotTls
        message += data[at + 5 : at + 5 + length]
        if message[:1] != bytes((_CLIENT_HELLO,)) and message:
            raise NotTls
        if len(message) >= 4:
            wanted = int.from_bytes(message[1:4], "big")
            if wanted > LONGEST:
                raise NotTls
            if len(message) >= 4 + wanted:
                return bytes(message[4 : 4 + wanted])
        at += 5 + length


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    reader = _Reader(data)
    while reader.left:
        yield reader.number(2), reader.vector(2)


def _host_name(extension: bytes) -> str:
    entries = _Reader(_Reader(extension).vector(2))
    kind, name = entries.number(1), entries.vector(2)
    if kind != _HOST_NAME or entries.left:
        raise NotTls
    try:
        return name.decode("ascii").lower()
    except UnicodeDecodeError:
        raise NotTls from None
