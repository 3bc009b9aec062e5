"""Reads a call in the OpenAI Chat Completions protocol."""

from __future__ import annotations

import json
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import tool_call

from orchestrion.models.wire.calls import ModelCall, numbers, refuse_unsupported, want
from orchestrion.models.wire.terms import BadRequest, mappings

_NOT_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "audio": (),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "web_search_options": (),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "reasoning_effort": (),
}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
# What a part of each type has; all else in it is left out.
_PARTS = {
    "text": (),
    "image_url": ("url", "detail"),
    "file": ("file_data", "filename"),
    "input_audio": ("data", "format"),
}


def read_openai(body: dict[str, Any]) -> ModelCall:
    """Read a request's body.

    Raises:
        BadRequest: It is malformed, or asks for what can't be passed on.
    """
    refuse_unsupported(body, _NOT_SUPPORTED)
    model = want(body.get("model"), str, "model")
    said = mappings(body.get("messages"), "messages")
    if not said:
        raise BadRequest("Missing required parameter: 'messages'.")
    names: dict[str, str] = {}
    parameters = numbers(body, "max_tokens", "max_completion_tokens", "temperature", "top_p")
    if most := parameters.pop("max_completion_tokens", None):
        parameters["max_tokens"] = most
    return ModelCall(
        model=model,
        messages=[_message(message, f"messages[{index}]", names) for index, message in enumerate(said)],
        tools=[_tool(tool, f"tools[{index}]") for index, tool in enumerate(mappings(body.get("tools"), "tools"))],
        tool_choice=_choice(body.get("tool_choice")),
        one_call=body.get("parallel_tool_calls") is False,
        parameters=parameters,
        stop=_stop(body.get("stop")),
        stream=bool(body.get("stream")),
        usage=bool(want(body.get("stream_options") or {}, dict, "stream_options").get("include_usage")),
    )


def _message(message: dict[str, Any], where: str, names: dict[str, str]) -> BaseMessage:
    role, content = message.get("role"), message.get("content")
    if role in {"system", "developer"}:
        return SystemMessage(_text(content, where))
    if role == "user":
        return HumanMessage(_content(content, where))
    if role == "assistant":
        answer = _assistant(message, where)
        names |= {str(call["id"]): call["name"] for call in answer.tool_calls}
        return answer
    if role == "tool":
        call_id = want(message.get("tool_call_id"), str, f"{where}.tool_call_id")
        return ToolMessage(_text(content, where), tool_call_id=call_id, name=names.get(call_id))
    raise BadRequest(f"Invalid value for {where}.role: 'system', 'developer', 'user', 'assistant' or 'tool'.")


def _text(content: object, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = mappings(content, f"{where}.content")
    return "\n".join(want(part.get("text"), str, f"{where}.content.text") for part in parts)


def _content(content: object, where: str) -> str | list[str | dict[str, Any]]:
    if isinstance(content, str):
        return content
    if content is None:
        raise BadRequest(f"Missing required parameter: '{where}.content'.")
    return [_part(part, f"{where}.content") for part in mappings(content, f"{where}.content")]


def _part(part: dict[str, Any], where: str) -> dict[str, Any]:
    kind = str(part.get("type"))
    if kind not in _PARTS:
        raise BadRequest(f"{where}: Parts of type {kind[:40]!r} are not supported.")
    if kind == "text":
        return {"type": kind, "text": want(part.get("text"), str, f"{where}.text")}
    given = want(part.get(kind), dict, f"{where}.{kind}")
    kept = {name: want(given[name], str, f"{where}.{kind}.{name}") for name in _PARTS[kind] if name in given}
    # What the sender may not reach, nobody fetches for it: neither we nor the model's provider.
    if "file_id" in given or not kept.get("url", "data:").startswith("data:"):
        raise BadRequest(f"{where}: Give the data itself; URLs and files' ids are not supported by this gateway.")
    return {"type": kind, kind: kept}


def _assistant(message: dict[str, Any], where: str) -> AIMessage:
    calls = []
    for call in mappings(message.get("tool_calls"), f"{where}.tool_calls"):
        function = want(call.get("function"), dict, f"{where}.tool_calls.function")
        calls.append(
            tool_call(
                name=want(function.get("name"), str, f"{where}.tool_calls.function.name"),
                args=_arguments(function.get("arguments"), where),
                id=want(call.get("id"), str, f"{where}.tool_calls.id"),
            )
        )
    return AIMessage(content=_text(message.get("content"), where), tool_calls=calls)


def _arguments(text: object, where: str) -> dict[str, Any]:
    try:
        arguments = json.loads(want(text, str, f"{where}.tool_calls.function.arguments") or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise BadRequest(f"{where}.tool_calls.function.arguments: Input should be a JSON object in a string")
    return arguments


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise BadRequest(f"{where}.type: Only functions are supported by this gateway")
    given = want(tool.get("function"), dict, f"{where}.function")
    function = {
        "name": want(given.get("name"), str, f"{where}.function.name"),
        "description": str(given.get("description") or ""),
        "parameters": want(given.get("parameters") or {"type": "object", "properties": {}}, dict, where),
    }
    return {"type": "function", "function": function}


def _choice(choice: object) -> str | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in _CHOICES:
        return _CHOICES[choice]
    if isinstance(choice, dict) and choice.get("type") == "function":
        return want(want(choice.get("function"), dict, "tool_choice.function").get("name"), str, "tool_choice.name")
    raise BadRequest("tool_choice: Input should be 'auto', 'none', 'required' or a function")


def _stop(stop: object) -> list[str]:
    if stop is None:
        return []
    return [want(text, str, "stop") for text in ([stop] if isinstance(stop, str) else want(stop, list, "stop"))]
