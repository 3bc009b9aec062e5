"""Records every model call of a run: its text as it streams, its usage, and the whole exchange for the trace."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, GenerationChunk, LLMResult

from orchestrion.core.coalesce import Coalescer
from orchestrion.core.events import MessageCompleted, MessageDelta
from orchestrion.core.ids import new_id
from orchestrion.middleware.accounts import Accounts, Call
from orchestrion.middleware.context import AgentContext
from orchestrion.models import Models, broken_off
from orchestrion.store.protocols import Blobs


@dataclass
class _Call:
    """A model call that is under way."""

    entry: Call
    message_id: str
    deltas: Coalescer
    phase: str


class ModelCallRecorder(AsyncCallbackHandler):
    """A LangChain callback; one for each run.

    Args:
        context: The run.
        blobs: Keeps prompts and responses.
        models: Names the model of each role and knows its price.
    """

    raise_error = True

    def __init__(self, context: AgentContext, blobs: Blobs, models: Models) -> None:
        self._context = context
        self._models = models
        self._accounts = Accounts(context, blobs, models)
        self._calls: dict[UUID, _Call] = {}

    async def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """A call begins."""
        message_id, phase, agent = new_id("msg"), self._context.phase, self._context.agent

        async def send(text: str) -> None:
            await self._context.emit(MessageDelta(message_id=message_id, text=text, phase=phase, agent=agent))

        tools = (kwargs.get("invocation_params") or {}).get("tools")
        entry = Call(self._models.label(agent), agent, messages[0], tools)
        self._calls[run_id] = _Call(entry, message_id, Coalescer(send), phase)
        self._context.streaming_message = message_id

    async def on_llm_new_token(
        self, token: Any, *, chunk: GenerationChunk | ChatGenerationChunk | None = None, run_id: UUID, **kwargs: Any
    ) -> None:
        """A piece of text arrives."""
        call = self._calls[run_id]
        text = chunk.message.text if isinstance(chunk, ChatGenerationChunk) else str(token)
        if text:
            call.entry.first_token = call.entry.first_token or monotonic() - call.entry.begun
            await call.deltas.add(text)

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """The call failed or was cancelled; its text stays what it is."""
        call = self._calls.pop(run_id, None)
        if call:
            await call.deltas.close()

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """The call is answered."""
        call = self._calls.pop(run_id)
        generation = response.generations[0][0]
        if not isinstance(generation, ChatGeneration) or not isinstance(generation.message, AIMessage):
            return
        message = generation.message
        if call.entry.first_token is None and message.text:
            await call.deltas.add(message.text)
        await call.deltas.close()
        if not broken_off(message):  # one that did is tried again, and its text is void
            if message.text:
                await self._context.emit(
                    MessageCompleted(message_id=call.message_id, text=message.text, phase=call.phase)
                )
            self._context.streaming_message = None
        await self._accounts.book(call.entry, message)
