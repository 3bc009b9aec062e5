"""A deterministic chat model: each role plays fixed moves that it derives from the messages alone."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, Literal, Protocol, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.base import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

LABEL = "playbook — not a language model"

Role = Literal["orchestrator", "chat", "data", "research"]
BindableTool = dict[str, Any] | type | Callable[..., Any] | BaseTool


class Player(Protocol):
    """What a role's module offers."""

    def play(self, messages: list[BaseMessage], tools: list[str]) -> AIMessage:
        """Return the next move, given the conversation and the names of the tools at hand."""
        ...


class PlaybookModel(BaseChatModel):
    """A chat model without a network: the same messages always get the same answer.

    Attributes:
        role: Whose part it plays; one module of this package each.
        tool_names: The tools bound to it.
        streaming: Kept for callers that ask; it always can stream, word by word.
    """

    role: Role
    tool_names: list[str] = Field(default_factory=list)
    streaming: bool = True

    @property
    def _llm_type(self) -> str:
        return "playbook"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": LABEL, "role": self.role}

    def bind_tools(
        self, tools: Sequence[BindableTool], *, tool_choice: str | None = None, **_kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return a copy that knows these tools by name; `tool_choice` has no meaning to a fixed script."""
        names = [convert_to_openai_tool(tool)["function"]["name"] for tool in tools]
        return self.model_copy(update={"tool_names": names})

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_kwargs: Any,
    ) -> ChatResult:
        message = self._play(messages)
        message.usage_metadata = _no_usage()
        return ChatResult(generations=[ChatGeneration(message=message)], llm_output={"model": LABEL})

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in _chunks(self._play(messages)):
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **_kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in _chunks(self._play(messages)):
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _play(self, messages: list[BaseMessage]) -> AIMessage:
        player = cast(Player, import_module(f"orchestrion.models.playbook.{self.role}"))
        message = player.play(messages, self.tool_names)
        message.response_metadata = {"model_name": LABEL, "model_provider": "playbook"}
        return message


def _chunks(message: AIMessage) -> Iterator[ChatGenerationChunk]:
    """Cut an answer into words, then its tool calls, then the closing figures."""
    for word in re.findall(r"\s*\S+\s*$|\s*\S+", message.text):
        yield ChatGenerationChunk(message=AIMessageChunk(content=word))
    for index, call in enumerate(message.tool_calls):
        part = tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
        yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[part]))
    last = AIMessageChunk(
        content="",
        usage_metadata=_no_usage(),
        response_metadata=message.response_metadata,
        chunk_position="last",
    )
    yield ChatGenerationChunk(message=last)


def _no_usage() -> UsageMetadata:
    return UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)
