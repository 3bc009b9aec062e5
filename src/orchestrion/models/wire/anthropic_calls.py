"""Reads a call in the Anthropic Messages protocol."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import tool_call

from orchestrion.models.wire.calls import ModelCall, numbers, refuse_unsupported, want
from orchestrion.models.wire.terms import BadRequest, mappings

_NOT_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "thinking": ({"type": "disabled"},),
    "mcp_servers": ([],),
    "container": (),
    "output_config": ({},),
    "output_format": (),
    "top_k": (),
}
_CHOICES = {"auto": "auto", "any": "any", "none": "none"}


def read_anthropic(body: dict[str, Any]) -> ModelCall:
    """Read a request's body.

    Raises:
        BadRequest: It is malformed, or asks for what can't be passed on.
    """
    refuse_unsupported(body, _NOT_SUPPORTED)
    model, most = want(body.get("model"), str, "model"), want(body.get("max_tokens"), int, "max_tokens")
    messages: list[BaseMessage] = []
    if body.get("system"):
        messages.append(SystemMessage(_system(body["system"])))
    said = mappings(body.get("messages"), "messages")
    if not said:
        raise BadRequest("messages: at least one message is required")
    names: dict[str, str] = {}
    for index, message in enumerate(said):
        messages += _message(message, f"messages.{index}", names)
    choice = want(body.get("tool_choice") or {}, dict, "tool_choice")
    return ModelCall(
        model=model,
        messages=messages,
        tools=[_tool(tool, f"tools.{index}") for index, tool in enumerate(mappings(body.get("tools"), "tools"))],
        tool_choice=_choice(choice),
        one_call=bool(choice.get("disable_parallel_tool_use")),
        parameters={"max_tokens": most, **numbers(body, "temperature", "top_p")},
        stop=[
            want(text, str, "stop_sequences")
            for text in want(body.get("stop_sequences") or [], list, "stop_sequences")
        ],
        stream=bool(body.get("stream")),
    )


def _system(system: object) -> str:
    if isinstance(system, str):
        return system
    return "\n".join(want(block.get("text"), str, "system.text") for block in mappings(system, "system"))


def _message(message: dict[str, Any], where: str, names: dict[str, str]) -> list[BaseMessage]:
    blocks = _blocks(message.get("content"), f"{where}.content")
    if message.get("role") == "assistant":
        answer = _assistant(blocks, where)
        names |= {str(call["id"]): call["name"] for call in answer.tool_calls}
        return [answer]
    if message.get("role") == "system":
        return [SystemMessage(_system(message.get("content")))]
    if message.get("role") != "user":
        raise BadRequest(f"{where}.role: Input should be 'user' or 'assistant'")
    results = [_result(block, where, names) for block in blocks if block.get("type") == "tool_result"]
    others = [_part(block, where) for block in blocks if block.get("type") != "tool_result"]
    return [*results, *([HumanMessage(_content(others))] if others or not results else [])]


def _blocks(content: object, where: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if content is None:
        raise BadRequest(f"{where}: Field required")
    return mappings(content, where)


def _assistant(blocks: list[dict[str, Any]], where: str) -> AIMessage:
    calls = [
        tool_call(
            name=want(block.get("name"), str, f"{where}.name"),
            args=want(block.get("input"), dict, f"{where}.input"),
            id=want(block.get("id"), str, f"{where}.id"),
        )
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    text = [want(block.get("text"), str, f"{where}.text") for block in blocks if block.get("type") == "text"]
    return AIMessage(content="\n".join(text), tool_calls=calls)


def _result(block: dict[str, Any], where: str, names: dict[str, str]) -> ToolMessage:
    call_id = want(block.get("tool_use_id"), str, f"{where}.tool_use_id")
    parts = [_part(part, where) for part in _blocks(block.get("content") or "", f"{where}.content")]
    status = "error" if block.get("is_error") else "success"
    return ToolMessage(_content(parts), tool_call_id=call_id, name=names.get(call_id), status=status)


def _part(block: dict[str, Any], where: str) -> dict[str, Any]:
    """Turn a block of a user's message into LangChain's own kind, which every provider's package understands."""
    kind = block.get("type")
    if kind == "text":
        return {"type": "text", "text": want(block.get("text"), str, f"{where}.text")}
    if kind not in {"image", "document"}:
        raise BadRequest(f"{where}.content: Blocks of type {str(kind)[:40]!r} are not supported by this gateway")
    source, ours = want(block.get("source"), dict, f"{where}.source"), "image" if kind == "image" else "file"
    if source.get("type") == "base64":
        data, media = want(source.get("data"), str, f"{where}.data"), want(source.get("media_type"), str, where)
        return {"type": ours, "base64": data, "mime_type": media}
    if source.get("type") == "text":
        return {"type": "text", "text": want(source.get("data"), str, f"{where}.data")}
    # What the sender may not reach, nobody fetches for it: neither we nor the model's provider.
    raise BadRequest(f"{where}.source: Give the data itself; URLs and files' ids are not supported by this gateway")


def _content(parts: list[dict[str, Any]]) -> str | list[str | dict[str, Any]]:
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return [*parts] if parts else ""


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise BadRequest(f"{where}.type: Tools that the provider runs itself are not supported by this gateway")
    function = {
        "name": want(tool.get("name"), str, f"{where}.name"),
        "description": str(tool.get("description") or ""),
        "parameters": want(tool.get("input_schema"), dict, f"{where}.input_schema"),
    }
    return {"type": "function", "function": function}


def _choice(choice: dict[str, Any]) -> str | None:
    if not choice:
        return None
    if choice.get("type") == "tool":
        return want(choice.get("name"), str, "tool_choice.name")
    if choice.get("type") not in _CHOICES:
        raise BadRequest("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'")
    return _CHOICES[choice["type"]]
