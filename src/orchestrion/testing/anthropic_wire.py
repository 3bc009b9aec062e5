"""The Anthropic Messages protocol, from the provider's side."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrion.models.wire import AnthropicDialect, BadRequest, mappings
from orchestrion.testing.replies import Request, flat
from orchestrion.testing.wire import RenderedWire

# Models from this generation on answer sampling parameters, and forced tool use, with a 400.
_NO_SAMPLING = re.compile(r"claude-(?:opus-4-[78]|(?:opus|sonnet|haiku|fable)-5)")
_NO_FORCED_TOOLS = re.compile(r"claude-(?:opus-5-5|sonnet-5-5|fable-5-1)")


class AnthropicWire(RenderedWire):
    """`POST /v1/messages`."""

    dialect = AnthropicDialect()

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
