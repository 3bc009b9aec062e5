"""An answer whose stream just stops is not taken for a short one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from langchain.agents.middleware.types import ModelResponse
from langchain_core.messages import AIMessage

from orchestrion.core.errors import ModelUnavailable
from orchestrion.middleware.retry import Retry
from orchestrion.models import broken_off, require_end

CALL = {"name": "execute", "args": {}, "id": "call_0"}


def answer(text: str = "", calls: list[Any] | None = None, **meta: Any) -> AIMessage:
    return AIMessage(text, tool_calls=calls or [], response_metadata=meta)


@pytest.mark.parametrize(
    ("message", "broken"),
    [
        (answer("half an", model_provider="anthropic"), True),
        (answer(model_provider="anthropic"), True),
        (answer("whole", model_provider="anthropic", stop_reason="end_turn"), False),
        (answer(model_provider="openai"), True),
        (answer(model_provider="openai", finish_reason="stop"), False),
        (answer("some servers name no reason", model_provider="openai"), False),
        (answer(calls=[CALL], model_provider="openai"), False),
        (answer(), False),
    ],
)
def test_an_answer_that_broke_off_is_told(message: AIMessage, broken: bool) -> None:
    assert broken_off(message) is broken
    if broken:
        with pytest.raises(ModelUnavailable):
            require_end(message)


async def test_an_agents_call_that_broke_off_is_made_again() -> None:
    told: list[Any] = []
    answers = [
        answer("half", model_provider="anthropic"),
        answer("whole", model_provider="anthropic", stop_reason="x"),
    ]

    async def emit(event: Any) -> None:
        told.append(event)

    async def handler(_: Any) -> ModelResponse[Any]:
        return ModelResponse(result=[answers.pop(0)])

    settings = SimpleNamespace(model_retries=1, model_timeout_seconds=5)
    context = SimpleNamespace(emit=emit, settings=settings, streaming_message="msg_1")
    request: Any = SimpleNamespace(runtime=SimpleNamespace(context=context))
    response = await Retry().awrap_model_call(request, handler)
    assert [message.text for message in response.result] == ["whole"]
    assert [event.message_id for event in told] == ["msg_1"]
