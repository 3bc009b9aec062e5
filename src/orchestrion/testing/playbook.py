"""A responder that plays the built-in playbook over the wire: real provider clients carry real jobs through."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from orchestrion.testing.replies import Reply, Request, ToolCall, flat

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, BaseMessage

PlaybookRole: TypeAlias = Literal["orchestrator", "chat", "data", "research"]


class PlaybookResponder:
    """Answers as the playbook would in the role that the request shows.

    Args:
        delay: Seconds before each piece but the first.
        first_token_delay: Seconds before anything is answered.
    """

    def __init__(self, delay: float = 0.0, first_token_delay: float = 0.0) -> None:
        self._delay = delay
        self._first_token_delay = first_token_delay

    async def __call__(self, request: Request) -> Reply:
        """Return the playbook's next move."""
        # Imported here because the testing room is otherwise free of langchain, and starts fast.
        from orchestrion.models.playbook import PlaybookModel

        model = PlaybookModel(role=role_of(request), tool_names=request.tool_names)
        message = await model.ainvoke(to_messages(request))
        return Reply(
            text=message.text,
            tool_calls=[ToolCall(call["name"], call["args"], call["id"] or "") for call in message.tool_calls],
            delay=self._delay,
            first_token_delay=self._first_token_delay,
        )


def role_of(request: Request) -> PlaybookRole:
    """Return the role that a request is made in: by its tools, else by its system prompt."""
    names = request.tool_names
    if "search_documents" in names:
        return "research"
    if "execute_code" in names:
        return "data"
    system = request.system.lower()
    return "orchestrator" if "planner" in system or "summariser" in system else "chat"


def to_messages(request: Request) -> list[BaseMessage]:
    """Turn the messages on the wire into LangChain's."""
    from langchain_core.messages import SystemMessage

    messages: list[BaseMessage] = [SystemMessage(request.system)] if request.system else []
    names: dict[str, str] = {}
    for message in request.messages:
        if message.get("role") == "assistant":
            answer = _assistant(message)
            names |= {str(call["id"]): call["name"] for call in answer.tool_calls}
            messages.append(answer)
        else:
            messages += _from_user(message, names)
    return messages


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content or [] if isinstance(block, dict)]


def _assistant(message: dict[str, Any]) -> AIMessage:
    from langchain_core.messages import AIMessage
    from langchain_core.messages.tool import tool_call

    blocks = _blocks(message)
    calls = [
        tool_call(name=block["name"], args=block["input"], id=block["id"])
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    for call in message.get("tool_calls") or []:
        function = call["function"]
        calls.append(tool_call(name=function["name"], args=json.loads(function["arguments"]), id=call["id"]))
    text = "\n".join(block["text"] for block in blocks if block.get("type") == "text")
    return AIMessage(content=text, tool_calls=calls)


def _from_user(message: dict[str, Any], names: dict[str, str]) -> list[BaseMessage]:
    """Return a user's words, a tool's results, or both: Anthropic puts results into user messages."""
    from langchain_core.messages import HumanMessage, ToolMessage

    if message.get("role") == "tool":
        call_id = str(message["tool_call_id"])
        return [ToolMessage(flat(message.get("content")), tool_call_id=call_id, name=names.get(call_id))]
    found: list[BaseMessage] = []
    for block in _blocks(message):
        if block.get("type") == "tool_result":
            call_id, status = str(block["tool_use_id"]), "error" if block.get("is_error") else "success"
            text = flat(block.get("content"))
            found.append(ToolMessage(text, tool_call_id=call_id, name=names.get(call_id), status=status))
        elif block.get("type") == "text":
            found.append(HumanMessage(block["text"]))
    return found
