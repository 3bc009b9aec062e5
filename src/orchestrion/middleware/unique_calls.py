"""Keeps tool call ids unique within a run, because the effects ledger goes by them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import AgentState, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, BaseMessage, ToolCall

from orchestrion.core.ids import new_id
from orchestrion.middleware.context import AgentContext

Handler = Callable[[ModelRequest[AgentContext]], Awaitable[ModelResponse[Any]]]


class UniqueCalls(AgentMiddleware[AgentState[Any], AgentContext]):
    """Renames a tool call whose id the conversation already has; some servers count from 0 in every answer."""

    async def awrap_model_call(self, request: ModelRequest[AgentContext], handler: Handler) -> ModelResponse[Any]:
        """Ask the model, then rename what repeats."""
        response = await handler(request)
        seen = {str(call["id"]) for message in request.messages for call in getattr(message, "tool_calls", [])}
        response.result = [_renamed(message, seen) for message in response.result]
        return response


def _renamed(message: BaseMessage, seen: set[str]) -> BaseMessage:
    if not isinstance(message, AIMessage):
        return message
    calls: list[ToolCall] = []
    for call in message.tool_calls:
        known = call["id"] is None or call["id"] in seen
        calls.append({**call, "id": new_id("call")} if known else call)
        seen.add(str(call["id"]))
    if calls == message.tool_calls:
        return message
    blocks = [block for block in message.content if isinstance(block, str) or block.get("type") != "tool_use"]
    content = message.content if isinstance(message.content, str) else blocks
    return message.model_copy(update={"tool_calls": calls, "content": content})
