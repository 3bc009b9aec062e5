"""What the two wire protocols have in common for the stand-in: a request is read, a dialect renders the reply."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrion.models.wire import Answer, Called, Dialect, Piece, Stop, Tokens
from orchestrion.testing.replies import Failure, Reply, Request


class RenderedWire(ABC):
    """One wire protocol.

    Attributes:
        dialect: How answers and errors are written.
    """

    dialect: Dialect

    @abstractmethod
    def request(self, body: dict[str, Any], headers: Mapping[str, str]) -> Request:
        """Read a request body.

        Raises:
            BadRequest: The provider would refuse it.
        """

    def whole(self, request: Request, reply: Reply) -> dict[str, Any]:
        """Return the answer in one piece."""
        calls = [Called(call.id, call.name, call.args) for call in reply.tool_calls]
        return self.dialect.whole(request.model, Answer(reply.text, calls, _stop(reply), _tokens(request, reply)))

    def stream(self, request: Request, reply: Reply) -> Iterator[Piece]:
        """Yield the answer as a stream."""
        tokens = _tokens(request, reply)
        asked = bool((request.raw.get("stream_options") or {}).get("include_usage"))
        encoder = self.dialect.encoder(request.model, prompt=tokens, usage=asked)
        yield from encoder.start()
        for piece in reply.pieces():
            yield from encoder.text(piece)
        for call in reply.tool_calls:
            yield from encoder.call(call.id, call.name)
            for piece in reply.argument_pieces(json.dumps(call.args, ensure_ascii=False)):
                yield from encoder.arguments(piece)
        yield from encoder.end(_stop(reply), tokens)

    def error(self, failure: Failure) -> dict[str, Any]:
        """Return the body of an error."""
        return self.dialect.error(failure.status, failure.message)

    def error_event(self, failure: Failure) -> bytes:
        """Return an error inside a stream."""
        return self.dialect.error_event(failure.status, failure.message)


def _stop(reply: Reply) -> Stop:
    if reply.truncated:
        return "length"
    return "tools" if reply.tool_calls else "end"


def _tokens(request: Request, reply: Reply) -> Tokens:
    prompt, answer = reply.tokens(request)
    return Tokens(prompt, answer, reply.cache_read_tokens)
