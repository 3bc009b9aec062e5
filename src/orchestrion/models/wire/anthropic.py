"""How the Anthropic Messages protocol writes answers and errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrion.core.ids import new_id
from orchestrion.models.wire.terms import Answer, Piece, Stop, Tokens, sse

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STOPS: dict[Stop, str] = {
    "end": "end_turn",
    "tools": "tool_use",
    "length": "max_tokens",
    "stop": "stop_sequence",
    "refusal": "refusal",
}


class AnthropicDialect:
    """See `terms.Dialect`."""

    def whole(self, model: str, answer: Answer) -> dict[str, Any]:
        """Return an answer in one piece."""
        text = [{"type": "text", "text": answer.text}] if answer.text or not answer.calls else []
        calls = [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.args} for call in answer.calls]
        said = {"content": [*text, *calls], "stop_reason": _STOPS[answer.stop], "usage": _usage(answer.tokens)}
        return {**_message(model), **said}

    def encoder(self, model: str, *, prompt: Tokens | None = None, usage: bool = True) -> AnthropicEncoder:
        """Return what writes an answer as a stream; the tokens always come."""
        return AnthropicEncoder(model, prompt or Tokens())

    def status(self, status: int) -> int:
        """Return the status as it is."""
        return status

    def error(self, status: int, message: str) -> dict[str, Any]:
        """Return the body of an error."""
        kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": new_id("req")}

    def error_event(self, status: int, message: str) -> bytes:
        """Return an error inside a stream."""
        return sse(self.error(status, message), "error")


class AnthropicEncoder:
    """Writes typed events: a message of content blocks, one after the other."""

    def __init__(self, model: str, prompt: Tokens) -> None:
        self._model = model
        self._prompt = prompt
        self._index = -1
        self._open = ""

    def start(self) -> Iterator[Piece]:
        """Begin the message."""
        usage = {**_usage(self._prompt), "output_tokens": 1}
        yield _event("message_start", message={**_message(self._model), "content": [], "usage": usage})
        yield _event("ping")

    def text(self, piece: str) -> Iterator[Piece]:
        """Go on with text, in a block of its own after a tool call."""
        if self._open != "text":
            yield from self._begin({"type": "text", "text": ""})
        yield self._delta({"type": "text_delta", "text": piece})

    def call(self, call_id: str, name: str) -> Iterator[Piece]:
        """Begin a tool call."""
        yield from self._begin({"type": "tool_use", "id": call_id, "name": name, "input": {}})

    def arguments(self, piece: str) -> Iterator[Piece]:
        """Go on with its arguments."""
        yield self._delta({"type": "input_json_delta", "partial_json": piece})

    def end(self, stop: Stop, tokens: Tokens) -> Iterator[Piece]:
        """End the message; as the provider does, repeat the prompt's tokens, for LangChain reads them here."""
        if not self._open:
            yield from self._begin({"type": "text", "text": ""})
        yield _event("content_block_stop", index=self._index)
        delta = {"stop_reason": _STOPS[stop], "stop_sequence": None}
        yield _event("message_delta", delta=delta, usage=_usage(tokens))
        yield _event("message_stop")

    def _begin(self, block: dict[str, Any]) -> Iterator[Piece]:
        if self._open:
            yield _event("content_block_stop", index=self._index)
        self._index += 1
        self._open = block["type"]
        yield _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> Piece:
        return _event("content_block_delta", True, index=self._index, delta=delta)


def _message(model: str) -> dict[str, Any]:
    return {
        "id": new_id("msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _usage(tokens: Tokens) -> dict[str, int]:
    return {
        "input_tokens": max(0, tokens.prompt - tokens.cache_read),
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation_input_tokens": 0,
        "output_tokens": tokens.answer,
    }


def _event(kind: str, content: bool = False, **fields: Any) -> Piece:
    return Piece(sse({"type": kind, **fields}, kind), content)
