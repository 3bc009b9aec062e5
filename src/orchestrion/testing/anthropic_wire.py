"""The Anthropic Messages protocol, from the provider's side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrion.core.ids import new_id
from orchestrion.testing.replies import Failure, Reply, Request, flat
from orchestrion.testing.wire import BadRequest, Piece, mappings, sse

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
# Models from this generation on answer sampling parameters, and forced tool use, with a 400.
_NO_SAMPLING = re.compile(r"claude-(?:opus-4-[78]|(?:opus|sonnet|haiku|fable)-5)")
_NO_FORCED_TOOLS = re.compile(r"claude-(?:opus-5-5|sonnet-5-5|fable-5-1)")


class AnthropicWire:
    """`POST /v1/messages`."""

    def request(self, body: dict[str, Any], headers: Mapping[str, str]) -> Request:
        """Read a request body, refusing what the provider would refuse.

        Raises:
            BadRequest: It is malformed, or a tool call and its result don't belong together.
        """
        messages = mappings(body.get("messages"), "messages")
        model = str(body.get("model") or "")
        if not model or not isinstance(body.get("max_tokens"), int):
            raise BadRequest(f"{'max_tokens' if model else 'model'}: Field required")
        _check_messages(messages)
        _check_parameters(model, body)
        tools = mappings(body.get("tools"), "tools")
        system, stream = flat(body.get("system")), bool(body.get("stream"))
        return Request("anthropic", model, system, messages, tools, stream, body, headers)

    def whole(self, request: Request, reply: Reply) -> dict[str, Any]:
        """Return the answer in one piece."""
        message = _message(request)
        return {**message, "content": _blocks(reply), "stop_reason": _stop(reply), "usage": _usage(request, reply)}

    def stream(self, request: Request, reply: Reply) -> Iterator[Piece]:
        """Yield the answer as a stream of typed events."""
        usage = _usage(request, reply)
        start = {**_message(request), "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
        yield _event("message_start", message=start)
        yield _event("ping")
        for index, block in enumerate(_blocks(reply)):
            yield from _block(index, block, reply)
        # LangChain takes the totals from here, so the prompt's tokens are repeated, as the provider does.
        yield _event("message_delta", delta={"stop_reason": _stop(reply), "stop_sequence": None}, usage=usage)
        yield _event("message_stop")

    def error(self, failure: Failure) -> dict[str, Any]:
        """Return the body of an error."""
        kind = _TYPES.get(failure.status, "invalid_request_error" if failure.status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": failure.message}, "request_id": new_id("req")}

    def error_event(self, failure: Failure) -> bytes:
        """Return an error inside a stream."""
        return sse(self.error(failure), "error")


def _check_messages(messages: list[dict[str, Any]]) -> None:
    if not messages:
        raise BadRequest("messages: at least one message is required")
    if messages[0].get("role") != "user":
        raise BadRequest('messages: first message must use the "user" role')
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        results = _ids(message, "tool_result", "tool_use_id")
        if stray := results - open_calls:
            raise BadRequest(
                f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {min(stray)}"
            )
        if missing := open_calls - results:
            raise BadRequest(
                f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(sorted(missing))}"
            )
        open_calls = _ids(message, "tool_use", "id") if message.get("role") == "assistant" else set()
    if open_calls:
        raise BadRequest(f"messages: `tool_use` ids without `tool_result` blocks: {', '.join(sorted(open_calls))}")


def _ids(message: dict[str, Any], kind: str, key: str) -> set[str]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    return {str(block.get(key)) for block in blocks if isinstance(block, dict) and block.get("type") == kind}


def _check_parameters(model: str, body: dict[str, Any]) -> None:
    if _NO_SAMPLING.match(model) and any(body.get(name) is not None for name in ("temperature", "top_p", "top_k")):
        raise BadRequest(f"`temperature`, `top_p` and `top_k` are not supported by {model}")
    choice = (body.get("tool_choice") or {}).get("type")
    if _NO_FORCED_TOOLS.match(model) and choice in {"any", "tool"}:
        raise BadRequest(f"tool_choice: forced tool use is not supported by {model}")


def _message(request: Request) -> dict[str, Any]:
    return {
        "id": new_id("msg"),
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "stop_sequence": None,
    }


def _blocks(reply: Reply) -> list[dict[str, Any]]:
    text = [{"type": "text", "text": reply.text}] if reply.text or not reply.tool_calls else []
    calls = [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.args} for call in reply.tool_calls]
    return [*text, *calls]


def _stop(reply: Reply) -> str:
    if reply.truncated:
        return "max_tokens"
    return "tool_use" if reply.tool_calls else "end_turn"


def _usage(request: Request, reply: Reply) -> dict[str, int]:
    prompt, answer = reply.tokens(request)
    return {
        "input_tokens": prompt - reply.cache_read_tokens,
        "cache_read_input_tokens": reply.cache_read_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": answer,
    }


def _event(kind: str, content: bool = False, **fields: Any) -> Piece:
    return Piece(sse({"type": kind, **fields}, kind), content)


def _block(index: int, block: dict[str, Any], reply: Reply) -> Iterator[Piece]:
    if block["type"] == "text":
        empty, kind, key, pieces = {**block, "text": ""}, "text_delta", "text", reply.pieces()
    else:
        pieces = reply.argument_pieces(json.dumps(block["input"], ensure_ascii=False))
        empty, kind, key = {**block, "input": {}}, "input_json_delta", "partial_json"
    yield _event("content_block_start", index=index, content_block=empty)
    for piece in pieces:
        yield _event("content_block_delta", True, index=index, delta={"type": kind, key: piece})
    yield _event("content_block_stop", index=index)
