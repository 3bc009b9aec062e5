"""The OpenAI Chat Completions protocol, from the provider's side."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrion.core.ids import new_id
from orchestrion.testing.replies import Failure, Reply, Request, ToolCall, flat
from orchestrion.testing.wire import BadRequest, Piece, mappings, sse

_KINDS = {
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


class OpenAIWire:
    """`POST /v1/chat/completions`."""

    def request(self, body: dict[str, Any], headers: Mapping[str, str]) -> Request:
        """Read a request body, refusing what the provider would refuse.

        Raises:
            BadRequest: It is malformed, or a tool call and its result don't belong together.
        """
        messages = mappings(body.get("messages"), "messages")
        if not body.get("model") or not messages:
            raise BadRequest(f"Missing required parameter: '{'messages' if body.get('model') else 'model'}'.")
        _check_messages(messages)
        instructions = [message for message in messages if message.get("role") in {"system", "developer"}]
        others = [message for message in messages if message not in instructions]
        system = "\n".join(flat(message.get("content")) for message in instructions)
        tools, stream = mappings(body.get("tools"), "tools"), bool(body.get("stream"))
        return Request("openai", str(body["model"]), system, others, tools, stream, body, headers)

    def whole(self, request: Request, reply: Reply) -> dict[str, Any]:
        """Return the answer in one piece."""
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
        if reply.tool_calls:
            message["tool_calls"] = [_call(call, json.dumps(call.args)) for call in reply.tool_calls]
        choice = {"index": 0, "message": message, "finish_reason": _finish(reply)}
        return {**_head(request, "chat.completion"), "choices": [choice], "usage": _usage(request, reply)}

    def stream(self, request: Request, reply: Reply) -> Iterator[Piece]:
        """Yield the answer as a stream of chunks."""
        head = _head(request, "chat.completion.chunk")
        yield _chunk(head, {"role": "assistant", "content": ""})
        for piece in reply.pieces():
            yield _chunk(head, {"content": piece}, content=True)
        for index, call in enumerate(reply.tool_calls):
            yield _chunk(head, {"tool_calls": [{"index": index, **_call(call, "")}]})
            for piece in reply.argument_pieces(json.dumps(call.args)):
                part = {"index": index, "function": {"arguments": piece}}
                yield _chunk(head, {"tool_calls": [part]}, content=True)
        yield _chunk(head, {}, finish=_finish(reply))
        if (request.raw.get("stream_options") or {}).get("include_usage"):
            yield Piece(sse({**head, "choices": [], "usage": _usage(request, reply)}))
        yield Piece(sse("[DONE]"))

    def error(self, failure: Failure) -> dict[str, Any]:
        """Return the body of an error."""
        default = ("server_error", "server_error") if failure.status >= 500 else ("invalid_request_error", None)
        kind, code = _KINDS.get(failure.status, default)
        return {"error": {"message": failure.message, "type": kind, "param": None, "code": code}}

    def error_event(self, failure: Failure) -> bytes:
        """Return an error inside a stream."""
        return sse(self.error(failure))


def _check_messages(messages: list[dict[str, Any]]) -> None:
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        if message.get("role") == "tool":
            if message.get("tool_call_id") not in open_calls:
                raise BadRequest(
                    f"Invalid parameter: messages[{index}] with role 'tool' must be a response to a preceeding "
                    "message with 'tool_calls'."
                )
            open_calls.discard(str(message["tool_call_id"]))
            continue
        _refuse_open(open_calls)
        open_calls = {str(call.get("id")) for call in mappings(message.get("tool_calls"), "tool_calls")}
    _refuse_open(open_calls)


def _refuse_open(calls: set[str]) -> None:
    if calls:
        raise BadRequest(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. Missing: {', '.join(sorted(calls))}"
        )


def _head(request: Request, kind: str) -> dict[str, Any]:
    return {"id": new_id("cmpl"), "object": kind, "created": int(time.time()), "model": request.model}


def _call(call: ToolCall, arguments: str) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _finish(reply: Reply) -> str:
    if reply.truncated:
        return "length"
    return "tool_calls" if reply.tool_calls else "stop"


def _usage(request: Request, reply: Reply) -> dict[str, Any]:
    prompt, answer = reply.tokens(request)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": reply.cache_read_tokens},
    }


def _chunk(head: dict[str, Any], delta: dict[str, Any], *, finish: str | None = None, content: bool = False) -> Piece:
    return Piece(sse({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}), content)
