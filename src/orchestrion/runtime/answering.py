"""One model call of code in a sandbox, from the first try to the entry in the books."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from time import monotonic
from typing import Any, Literal, TypeAlias, cast

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.runnables import Runnable

from orchestrion.core.errors import BudgetSpent, ModelUnavailable
from orchestrion.core.events import ModelRetried, Usage
from orchestrion.core.ids import new_id
from orchestrion.middleware.accounts import Accounts, Call
from orchestrion.middleware.context import AgentContext
from orchestrion.models import explain, require_end, with_retries
from orchestrion.models.choice import SANDBOX
from orchestrion.models.wire import Answer, BadRequest, Called, Stop, Tokens
from orchestrion.models.wire.calls import ModelCall

Part: TypeAlias = tuple[Literal["text", "call", "arguments"], str, str]

_STOPS: dict[str, Stop] = {
    "max_tokens": "length",
    "length": "length",
    "stop_sequence": "stop",
    "refusal": "refusal",
    "content_filter": "refusal",
}
_UNHEARD = object()


class Answering:
    """Asks the model, hands its answer on as it comes, and books the call, whole or cut short.

    Args:
        context: The run.
        accounts: Its books.
        label: The model, as `provider:model`.
        model: The model.
        call: What is asked of it.
    """

    def __init__(
        self, context: AgentContext, accounts: Accounts, label: str, model: BaseChatModel, call: ModelCall
    ) -> None:
        self._context = context
        self._accounts = accounts
        self._model = _prepared(label, model, call)
        self._call = call
        self._entry = Call(label, SANDBOX, call.messages, call.tools, source="sandbox")
        self._stream: AsyncGenerator[AIMessageChunk, None] | None = None
        self._first: list[AIMessageChunk] = []
        self._said: AIMessageChunk | None = None
        self._ended = False
        self._asked = False
        self._booked: Usage | None = None

    async def begin(self) -> None:
        """Ask, again if need be, until the answer has begun.

        Raises:
            BudgetSpent: The run's budget is used up.
            ModelError: The provider refused the call.
            ModelUnavailable: It did not answer in all tries.
        """
        meter, settings = self._context.meter, self._context.settings
        meter.check()
        meter.steps += 1
        async with meter.deadline():
            await with_retries(
                self._try,
                retries=settings.model_retries,
                on_retry=self._tell_retry,
                attempt_seconds=settings.model_timeout_seconds,
            )

    async def _try(self) -> None:
        self._first, self._said, self._ended = [], None, False
        await self._drop()
        self._asked = True
        try:
            await self._listen()
        except Exception:
            self._asked = False  # what fails costs nothing; what nobody waits for does
            raise

    async def _listen(self) -> None:
        config: Any = {"callbacks": [], "run_name": "sandbox"}
        chunks = self._model.astream(self._call.messages, config, stop=self._call.stop or None)
        self._stream = cast("AsyncGenerator[AIMessageChunk, None]", chunks)
        while (chunk := await self._next()) is not None:
            self._first.append(chunk)
            if chunk.text or chunk.tool_call_chunks:
                self._entry.first_token = monotonic() - self._entry.begun
                return

    async def _next(self) -> AIMessageChunk | None:
        """Return the next piece; None at a proper end."""
        assert self._stream is not None
        chunk = await anext(self._stream, None)
        if chunk is not None:
            self._said = chunk if self._said is None else self._said + chunk
            return chunk
        self._ended = True
        require_end(self._message())
        return None

    async def _tell_retry(self, attempt: int, wait_seconds: float, error: BaseException) -> None:
        reason = explain(error).detail
        await self._context.emit(ModelRetried(attempt=attempt, wait_seconds=round(wait_seconds, 2), reason=reason))

    async def _chunks(self) -> AsyncIterator[AIMessageChunk]:
        for first in self._first:
            yield first
        longest = self._context.settings.model_timeout_seconds
        while not self._ended:
            left = self._context.meter.seconds_left()
            try:
                async with asyncio.timeout(longest if left is None else max(0.0, min(longest, left))):
                    chunk = await self._next()
            except TimeoutError:
                left = self._context.meter.seconds_left()
                if left is not None and left <= 0:
                    raise BudgetSpent("seconds", self._context.meter.budget.seconds or 0) from None
                raise ModelUnavailable("The model's provider fell silent.", "Try again later.") from None
            if chunk is None:
                return
            yield chunk

    async def parts(self) -> AsyncGenerator[Part, None]:
        """Yield text, the beginnings of tool calls (id and name) and pieces of their arguments, as they come.

        Raises:
            BudgetSpent: The run's time is over.
            ModelUnavailable: The answer broke off.
        """
        current: object = _UNHEARD
        async for chunk in self._chunks():
            if chunk.text:
                yield "text", chunk.text, ""
            for piece in chunk.tool_call_chunks:
                index, name = piece.get("index"), piece.get("name")
                if name and (index is None or index != current):
                    current = index
                    yield "call", piece.get("id") or new_id("call"), name
                if piece.get("args"):
                    yield "arguments", str(piece["args"]), ""

    async def whole(self) -> Answer:
        """Return the whole answer. Raises as `parts`."""
        async with aclosing(self.parts()) as parts:
            async for _ in parts:
                pass
        message = self._message()
        calls = [Called(call["id"] or new_id("call"), call["name"], call["args"]) for call in message.tool_calls]
        stop, tokens = await self.settled()
        return Answer(message.text, calls, stop, tokens)

    async def settled(self) -> tuple[Stop, Tokens]:
        """Book the call and return why the answer ended and what it used."""
        await self.close()
        usage, message = self._booked or Usage(), self._message()
        meta = message.response_metadata
        reason = str(meta.get("stop_reason") or meta.get("finish_reason") or "")
        stop = _STOPS.get(reason) or ("tools" if message.tool_calls else "end")
        return stop, Tokens(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens)

    async def close(self) -> None:
        """Stop asking and book what was asked and answered so far, also if nobody waits for the rest."""
        await self._drop()
        if self._booked is None and self._asked:
            self._booked = await asyncio.shield(self._accounts.book(self._entry, self._message()))

    async def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(Exception):
                await stream.aclose()

    def _message(self) -> AIMessage:
        return cast(AIMessage, message_chunk_to_message(self._said or AIMessageChunk(content="")))


def _prepared(label: str, model: BaseChatModel, call: ModelCall) -> Runnable[LanguageModelInput, Any]:
    """Return the model with the call's tools and parameters.

    Raises:
        BadRequest: It can't be used so.
    """
    provider = label.partition(":")[0]
    bound: Runnable[LanguageModelInput, Any] = model
    if call.tools:
        options: dict[str, Any] = {"tool_choice": call.tool_choice} if call.tool_choice else {}
        if call.tool_choice == "none" and provider == "anthropic":
            options["tool_choice"] = {"type": "none"}
        if call.one_call and provider in {"anthropic", "openai"}:
            options["parallel_tool_calls"] = False
        try:
            bound = model.bind_tools(call.tools, **options)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise BadRequest(f"tools: {error}") from None
    return bound.bind(**call.parameters) if call.parameters else bound
