"""Records every model call of a run: its text as it streams, its usage, and the whole exchange for the trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, message_to_dict
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, GenerationChunk, LLMResult

from orchestrion.core.coalesce import Coalescer
from orchestrion.core.events import LlmCalled, MessageCompleted, MessageDelta, RunNotice, Usage, UsageRecorded
from orchestrion.core.ids import new_id
from orchestrion.middleware.context import AgentContext
from orchestrion.models import Models, broken_off
from orchestrion.store.protocols import Blobs

_LETTERS = 4  # characters in a token, as a rule of thumb for English
_ESTIMATED = "The model's endpoint does not report all tokens; the counts are estimates, four characters to a token."
_UNPRICED = "the budget in US dollars can't be kept. Set a price in models.yaml, or a budget in tokens."


@dataclass
class _Call:
    """A model call that is under way."""

    message_id: str
    prompt: list[BaseMessage]
    tools: Any
    deltas: Coalescer
    role: str
    phase: str
    begun: float = field(default_factory=monotonic)
    first_token: float | None = None


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
        self._blobs = blobs
        self._models = models
        self._calls: dict[UUID, _Call] = {}
        self._told: set[str] = set()

    async def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """A call begins."""
        message_id, phase, agent = new_id("msg"), self._context.phase, self._context.agent

        async def send(text: str) -> None:
            await self._context.emit(MessageDelta(message_id=message_id, text=text, phase=phase, agent=agent))

        tools = (kwargs.get("invocation_params") or {}).get("tools")
        self._calls[run_id] = _Call(message_id, messages[0], tools, Coalescer(send), agent, phase)
        self._context.streaming_message = message_id

    async def on_llm_new_token(
        self, token: Any, *, chunk: GenerationChunk | ChatGenerationChunk | None = None, run_id: UUID, **kwargs: Any
    ) -> None:
        """A piece of text arrives."""
        call = self._calls[run_id]
        text = chunk.message.text if isinstance(chunk, ChatGenerationChunk) else str(token)
        if text:
            call.first_token = call.first_token or monotonic() - call.begun
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
        if call.first_token is None and message.text:
            await call.deltas.add(message.text)
        await call.deltas.close()
        if not broken_off(message):  # one that did is tried again, and its text is void
            if message.text:
                await self._context.emit(
                    MessageCompleted(message_id=call.message_id, text=message.text, phase=call.phase)
                )
            self._context.streaming_message = None
        await self._record(call, message)

    async def _record(self, call: _Call, message: AIMessage) -> None:
        label = self._models.label(call.role)
        usage = await self._usage(label, call, message)
        self._context.meter.add(usage)
        prompt: list[Any] = [message_to_dict(part) for part in call.prompt]
        if call.tools:
            prompt.append({"type": "tools", "data": call.tools})
        *digests, answer = await self._blobs.put(self._context.run_id, [*prompt, message_to_dict(message)])
        await self._context.emit(
            LlmCalled(
                model=label,
                role=call.role,
                prompt=digests,
                response=answer,
                seconds=round(monotonic() - call.begun, 4),
                first_token_seconds=None if call.first_token is None else round(call.first_token, 4),
            )
        )
        await self._context.emit(UsageRecorded(model=label, call=usage, total=self._context.meter.usage))

    async def _usage(self, label: str, call: _Call, message: AIMessage) -> Usage:
        """Return what a call used; tokens that its endpoint does not report are estimated, so that budgets hold."""
        usage = self._models.usage(label, message)
        if self._models.playbook:
            return usage
        prompt = sum(len(part.text) for part in call.prompt) + len(str(call.tools or ""))
        said = len(message.text) + sum(len(str(asked["args"])) for asked in message.tool_calls)
        known = usage.input_tokens or prompt // _LETTERS, usage.output_tokens or said // _LETTERS
        if known != (usage.input_tokens, usage.output_tokens):
            await self._tell_once("usage_estimated", "info", _ESTIMATED)
            usd = self._models.price(label, *known, usage.cache_read_tokens)
            usage = usage.model_copy(update={"input_tokens": known[0], "output_tokens": known[1], "usd": usd})
        if usage.usd is None and self._context.meter.budget.usd is not None:
            await self._tell_once("budget_unpriced", "warning", f"The price of {label} is not known: {_UNPRICED}")
        return usage

    async def _tell_once(self, code: str, level: Literal["info", "warning"], text: str) -> None:
        if code not in self._told:
            self._told.add(code)
            await self._context.emit(RunNotice(level=level, code=code, text=text))
