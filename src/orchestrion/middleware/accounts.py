"""Books a model call on its run: its usage against the budget, the whole exchange for the trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal

from langchain_core.messages import AIMessage, BaseMessage, message_to_dict

from orchestrion.core.events import LlmCalled, RunNotice, Usage, UsageRecorded
from orchestrion.middleware.context import AgentContext
from orchestrion.models import PLAYBOOK, Models
from orchestrion.store.protocols import Blobs

_LETTERS = 4  # characters in a token, as a rule of thumb for English
_ESTIMATED = "The model's endpoint does not report all tokens; the counts are estimates, four characters to a token."
_UNPRICED = "the budget in US dollars can't be kept. Set a price in models.yaml, or a budget in tokens."


@dataclass
class Call:
    """A model call.

    Attributes:
        label: The model, as `provider:model`.
        role: Who asks.
        prompt: The messages.
        tools: The tools offered, as the provider was told.
        source: An agent, or code in its sandbox.
        begun: When, on the monotonic clock.
        first_token: Seconds until the first piece of the answer.
    """

    label: str
    role: str
    prompt: Sequence[BaseMessage]
    tools: Any = None
    source: Literal["agent", "sandbox"] = "agent"
    begun: float = field(default_factory=monotonic)
    first_token: float | None = None


class Accounts:
    """The books of one run.

    Args:
        context: The run.
        blobs: Keeps prompts and responses.
        models: Knows prices.
    """

    def __init__(self, context: AgentContext, blobs: Blobs, models: Models) -> None:
        self._context = context
        self._blobs = blobs
        self._models = models
        self._told: set[str] = set()

    async def book(self, call: Call, message: AIMessage) -> Usage:
        """Count an answer and keep the exchange; return what it used."""
        usage = await self._usage(call, message)
        self._context.meter.add(usage)
        prompt: list[Any] = [message_to_dict(part) for part in call.prompt]
        if call.tools:
            prompt.append({"type": "tools", "data": call.tools})
        *digests, answer = await self._blobs.put(self._context.run_id, [*prompt, message_to_dict(message)])
        await self._context.emit(
            LlmCalled(
                model=call.label,
                role=call.role,
                source=call.source,
                prompt=digests,
                response=answer,
                seconds=round(monotonic() - call.begun, 4),
                first_token_seconds=None if call.first_token is None else round(call.first_token, 4),
            )
        )
        total = self._context.meter.usage
        await self._context.emit(UsageRecorded(model=call.label, source=call.source, call=usage, total=total))
        return usage

    async def _usage(self, call: Call, message: AIMessage) -> Usage:
        """Return what a call used; tokens that its endpoint does not report are estimated, so that budgets hold."""
        usage = self._models.usage(call.label, message)
        if call.label == PLAYBOOK:
            return usage
        prompt = sum(len(part.text) for part in call.prompt) + len(str(call.tools or ""))
        said = len(message.text) + sum(len(str(asked["args"])) for asked in message.tool_calls)
        known = usage.input_tokens or prompt // _LETTERS, usage.output_tokens or said // _LETTERS
        if known != (usage.input_tokens, usage.output_tokens):
            await self._tell_once("usage_estimated", "info", _ESTIMATED)
            usd = self._models.price(call.label, *known, usage.cache_read_tokens)
            usage = usage.model_copy(update={"input_tokens": known[0], "output_tokens": known[1], "usd": usd})
        if usage.usd is None and self._context.meter.budget.usd is not None:
            await self._tell_once(
                "budget_unpriced", "warning", f"The price of {call.label} is not known: {_UNPRICED}"
            )
        return usage

    async def _tell_once(self, code: str, level: Literal["info", "warning"], text: str) -> None:
        if code not in self._told:
            self._told.add(code)
            await self._context.emit(RunNotice(level=level, code=code, text=text))
