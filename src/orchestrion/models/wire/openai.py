"""How the OpenAI Chat Completions protocol writes answers and errors."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from orchestrion.core.ids import new_id
from orchestrion.models.wire.terms import Answer, Called, Piece, Stop, Tokens, sse

_KINDS = {
    401: ("invalid_request_error", "invalid_api_key"),
    402: ("insufficient_quota", "insufficient_quota"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
_STATUSES = {402: 429, 529: 503}
_STOPS: dict[Stop, str] = {
    "end": "stop",
    "tools": "tool_calls",
    "length": "length",
    "stop": "stop",
    "refusal": "content_filter",
}


class OpenAIDialect:
    """See `terms.Dialect`."""

    def whole(self, model: str, answer: Answer) -> dict[str, Any]:
        """Return an answer in one piece."""
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
        if answer.calls:
            message["tool_calls"] = [_call(call) for call in answer.calls]
        choice = {"index": 0, "message": message, "finish_reason": _STOPS[answer.stop]}
        return {**_head(model, "chat.completion"), "choices": [choice], "usage": _usage(answer.tokens)}

    def encoder(self, model: str, *, prompt: Tokens | None = None, usage: bool = True) -> OpenAIEncoder:
        """Return what writes an answer as a stream."""
        return OpenAIEncoder(model, usage)

    def status(self, status: int) -> int:
        """Return 429 for what is not paid for and 503 for overload, as OpenAI does."""
        return _STATUSES.get(status, status)

    def error(self, status: int, message: str) -> dict[str, Any]:
        """Return the body of an error."""
        default = ("server_error", "server_error") if status >= 500 else ("invalid_request_error", None)
        kind, code = _KINDS.get(status, default)
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def error_event(self, status: int, message: str) -> bytes:
        """Return an error inside a stream."""
        return sse(self.error(status, message))


class OpenAIEncoder:
    """Writes chunks, each with a delta of the one message."""

    def __init__(self, model: str, usage: bool) -> None:
        self._head = _head(model, "chat.completion.chunk")
        self._with_usage = usage
        self._calls = -1

    def start(self) -> Iterator[Piece]:
        """Begin the message."""
        yield self._chunk({"role": "assistant", "content": ""})

    def text(self, piece: str) -> Iterator[Piece]:
        """Go on with text."""
        yield self._chunk({"content": piece}, content=True)

    def call(self, call_id: str, name: str) -> Iterator[Piece]:
        """Begin a tool call."""
        self._calls += 1
        call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
        yield self._chunk({"tool_calls": [{"index": self._calls, **call}]})

    def arguments(self, piece: str) -> Iterator[Piece]:
        """Go on with its arguments."""
        part = {"index": self._calls, "function": {"arguments": piece}}
        yield self._chunk({"tool_calls": [part]}, content=True)

    def end(self, stop: Stop, tokens: Tokens) -> Iterator[Piece]:
        """End the message."""
        yield self._chunk({}, finish=_STOPS[stop])
        if self._with_usage:
            yield Piece(sse({**self._head, "choices": [], "usage": _usage(tokens)}))
        yield Piece(sse("[DONE]"))

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None, content: bool = False) -> Piece:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return Piece(sse({**self._head, "choices": [choice]}), content)


def _head(model: str, kind: str) -> dict[str, Any]:
    return {"id": new_id("cmpl"), "object": kind, "created": int(time.time()), "model": model}


def _call(call: Called) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.dumps(call.args)}
    return {"id": call.id, "type": "function", "function": function}


def _usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.answer,
        "total_tokens": tokens.prompt + tokens.answer,
        "prompt_tokens_details": {"cached_tokens": tokens.cache_read},
    }
