"""What the two wire protocols have in common for the stand-in: an interface, and server-sent events as bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrion.testing.replies import Failure, Reply, Request


@dataclass(frozen=True)
class Piece:
    """A piece of a stream.

    Attributes:
        data: Bytes as sent.
        content: Whether it carries text or arguments; only such pieces are delayed and counted.
    """

    data: bytes
    content: bool = False


class BadRequest(Exception):
    """The provider would refuse this request with a 400; the message is in its manner."""


class Wire(Protocol):
    """One wire protocol."""

    def request(self, body: dict[str, Any], headers: Mapping[str, str]) -> Request:
        """Read a request body.

        Raises:
            BadRequest: The provider would refuse it.
        """
        ...

    def whole(self, request: Request, reply: Reply) -> dict[str, Any]:
        """Return the answer in one piece."""
        ...

    def stream(self, request: Request, reply: Reply) -> Iterator[Piece]:
        """Yield the answer as a stream."""
        ...

    def error(self, failure: Failure) -> dict[str, Any]:
        """Return the body of an error."""
        ...

    def error_event(self, failure: Failure) -> bytes:
        """Return an error inside a stream."""
        ...


def sse(data: object, event: str | None = None) -> bytes:
    """Return one server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"{f'event: {event}' + chr(10) if event else ''}data: {text}\n\n".encode()


def mappings(value: object, name: str) -> list[dict[str, Any]]:
    """Return `value` as a list of mappings; None is an empty one.

    Raises:
        BadRequest: It is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadRequest(f"{name}: Input should be a valid list of objects")
    return value
