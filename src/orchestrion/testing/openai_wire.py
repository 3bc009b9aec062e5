"""The OpenAI Chat Completions protocol, from the provider's side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrion.models.wire import BadRequest, OpenAIDialect, mappings
from orchestrion.testing.replies import Request, flat
from orchestrion.testing.wire import RenderedWire


class OpenAIWire(RenderedWire):
    """`POST /v1/chat/completions`."""

    dialect = OpenAIDialect()

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
