"""What the wire protocols of models have in common, from the provider's side: an answer, and how it is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

Stop: TypeAlias = Literal["end", "tools", "length", "stop", "refusal"]


class BadRequest(Exception):
    """The provider would refuse this request with a 400; the message is in its manner."""


@dataclass(frozen=True)
class Piece:
    """A piece of a stream.

    Attributes:
        data: Bytes as sent.
        content: Whether it carries text or arguments.
    """

    data: bytes
    content: bool = False


@dataclass(frozen=True)
class Called:
    """A tool call of an answer."""

    id: str
    name: str
    args: dict[str, Any]


@dataclass(frozen=True)
class Tokens:
    """What a call used; `prompt` includes what was read from the cache."""

    prompt: int = 0
    answer: int = 0
    cache_read: int = 0


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    text: str
    calls: Sequence[Called] = ()
    stop: Stop = "end"
    tokens: Tokens = field(default_factory=Tokens)


class Encoder(Protocol):
    """Writes one answer as a stream: `start`, then text, calls and their arguments as they come, then `end`."""

    def start(self) -> Iterator[Piece]:
        """Begin the stream."""
        ...

    def text(self, piece: str) -> Iterator[Piece]:
        """Go on with text."""
        ...

    def call(self, call_id: str, name: str) -> Iterator[Piece]:
        """Begin a tool call."""
        ...

    def arguments(self, piece: str) -> Iterator[Piece]:
        """Go on with the JSON of that call's arguments."""
        ...

    def end(self, stop: Stop, tokens: Tokens) -> Iterator[Piece]:
        """End the stream."""
        ...


class Dialect(Protocol):
    """How one protocol writes answers and errors."""

    def whole(self, model: str, answer: Answer) -> dict[str, Any]:
        """Return an answer in one piece."""
        ...

    def encoder(self, model: str, *, prompt: Tokens | None = None, usage: bool = True) -> Encoder:
        """Return what writes an answer as a stream.

        Args:
            model: As the client named it.
            prompt: What is known of the tokens before the answer begins.
            usage: Whether the client asked for the tokens, where the protocol lets it.
        """
        ...

    def status(self, status: int) -> int:
        """Return the HTTP status that the protocol uses for what another would call `status`."""
        ...

    def error(self, status: int, message: str) -> dict[str, Any]:
        """Return the body of an error."""
        ...

    def error_event(self, status: int, message: str) -> bytes:
        """Return an error inside a stream."""
        ...


def sse(data: object, event: str | None = None) -> bytes:
    """Return one server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {text}\n\n".encode("utf-8", "replace")


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
