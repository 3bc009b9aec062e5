"""What binds a sandbox to a run: where its doings are reported, and who answers its model calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from orchestrion.core.events import EventBase

Emit: TypeAlias = Callable[[EventBase], Awaitable[None]]


class Pieces(Protocol):
    """The pieces of an answer, as they come: an async iterator that can be closed."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """End the call, also one of which no piece was taken yet."""
        ...


@dataclass(frozen=True)
class ModelReply:
    """The answer to a model call, in the protocol that it was made in.

    Attributes:
        status: HTTP status.
        body: All of it, or its pieces as they come.
        headers: Further HTTP headers.
    """

    status: int
    body: bytes | Pieces
    headers: Mapping[str, str] = field(default_factory=dict)


class ModelDoor(Protocol):
    """Answers the model calls of code in a sandbox; the keys stay on the host."""

    async def answer(self, method: str, path: str, body: bytes) -> ModelReply:
        """Answer one call; cancelling ends it. What goes wrong is an answer too, in the protocol's own shape.

        Args:
            method: HTTP method.
            path: `/v1/messages`, `/v1/chat/completions` or `/v1/models`.
            body: The request's body; its headers, and any key in them, stay at the gateway.
        """
        ...


@dataclass(frozen=True, eq=False)
class Grant:
    """Leave for a sandbox to use the gateway, until it is revoked.

    Attributes:
        run_id: The run that it is for; None for a sandbox that stands by itself.
        emit: Takes the events of what the sandbox reaches.
        models: Answers its model calls; None for none.
    """

    run_id: str | None = None
    emit: Emit | None = None
    models: ModelDoor | None = None
