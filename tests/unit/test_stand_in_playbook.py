"""The playbook over the wire: messages of both protocols become the same conversation."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from orchestrion.models.wire import BadRequest
from orchestrion.testing import Request
from orchestrion.testing.anthropic_wire import AnthropicWire
from orchestrion.testing.openai_wire import OpenAIWire
from orchestrion.testing.playbook import role_of, to_messages

ANTHROPIC: dict[str, Any] = {
    "model": "m",
    "max_tokens": 10,
    "system": [{"type": "text", "text": "be brief"}],
    "messages": [
        {"role": "user", "content": "1 + 2?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I add."},
                {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "3"}]},
                {"type": "text", "text": "and now?"},
            ],
        },
    ],
}
OPENAI: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "1 + 2?"},
        {
            "role": "assistant",
            "content": "I add.",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "user", "content": "and now?"},
    ],
}


@pytest.mark.parametrize("request_", [AnthropicWire().request(ANTHROPIC, {}), OpenAIWire().request(OPENAI, {})])
def test_both_protocols_become_the_same_conversation(request_: Request) -> None:
    system, asked, answered, result, again = to_messages(request_)
    assert (type(system), system.text) == (SystemMessage, "be brief")
    assert (type(asked), asked.text) == (HumanMessage, "1 + 2?")
    assert isinstance(answered, AIMessage)
    assert (answered.text, answered.tool_calls[0]["args"]) == ("I add.", {"a": 1})
    assert isinstance(result, ToolMessage)
    assert (result.text, result.tool_call_id, result.name) == ("3", "c1", "add")
    assert (type(again), again.text) == (HumanMessage, "and now?")


def test_an_error_of_a_tool_stays_one() -> None:
    body = {**ANTHROPIC, "messages": [*ANTHROPIC["messages"][:2]]}
    block = {"type": "tool_result", "tool_use_id": "c1", "content": "no", "is_error": True}
    body["messages"].append({"role": "user", "content": [block]})
    result = to_messages(AnthropicWire().request(body, {}))[-1]
    assert isinstance(result, ToolMessage)
    assert result.status == "error"


@pytest.mark.parametrize(
    ("system", "tools", "role"),
    [
        ("You are Orchestrion's planner.", [], "orchestrator"),
        ("You are Orchestrion's summariser.", [], "orchestrator"),
        ("You are helpful.", [], "chat"),
        ("x", ["execute_code", "write_report"], "data"),
        ("x", ["execute_code", "search_documents"], "research"),
    ],
)
def test_the_role_is_found_in_the_request(system: str, tools: list[str], role: str) -> None:
    offered = [{"name": name} for name in tools]
    assert role_of(Request("anthropic", "m", system, [], offered, False, {})) == role


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"model": ""}, "model"),
        ({"messages": []}, "at least one"),
        ({"messages": "x"}, "list"),
        ({"messages": ANTHROPIC["messages"][1:]}, "first message"),
        ({"messages": ANTHROPIC["messages"][:2]}, "tool_use"),
        ({"model": "claude-opus-5-5", "top_p": 0.9}, "top_p"),
        ({"model": "claude-sonnet-5-5", "tool_choice": {"type": "any"}}, "tool_choice"),
    ],
)
def test_what_anthropic_refuses_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        AnthropicWire().request({**ANTHROPIC, **change}, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": OPENAI["messages"][:3]}, "c1"),
        ({"messages": OPENAI["messages"][3:]}, "role 'tool'"),
    ],
)
def test_what_openai_refuses_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        OpenAIWire().request({**OPENAI, **change}, {})
