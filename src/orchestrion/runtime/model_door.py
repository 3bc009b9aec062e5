"""Answers the model calls of code in a run's sandbox, on the run's account: its models, its budget, its trace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import structlog

from orchestrion.core.errors import BudgetSpent, ModelUnavailable, NotFound, OrchestrionError, RunCancelled
from orchestrion.middleware.accounts import Accounts
from orchestrion.middleware.context import AgentContext
from orchestrion.models import Models, explain, is_model_error, scrub, status_of
from orchestrion.models.wire import AnthropicDialect, BadRequest, Dialect, OpenAIDialect, Piece
from orchestrion.models.wire.anthropic_calls import read_anthropic
from orchestrion.models.wire.calls import ModelCall, parse_body
from orchestrion.models.wire.openai_calls import read_openai
from orchestrion.runtime.answering import Answering
from orchestrion.sandbox.gateway import Grant, ModelReply
from orchestrion.store.protocols import Blobs

log = structlog.get_logger(__name__)

_AT_ONCE = 4
_WAITING = 64
_JSON = {"content-type": "application/json"}
_STREAM = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}
# What the client may be told of the provider's own status; a key that is refused is the host's affair.
_PASSED_ON = frozenset({400, 404, 413, 422, 429})


class Wire(NamedTuple):
    """A protocol that the door speaks."""

    dialect: Dialect
    read: Callable[[dict[str, Any]], ModelCall]


_WIRES = {
    "/v1/messages": Wire(AnthropicDialect(), read_anthropic),
    "/v1/chat/completions": Wire(OpenAIDialect(), read_openai),
}


def run_grant(context: AgentContext, models: Models, blobs: Blobs) -> Grant:
    """Return what a run lets its sandbox do at the gateway, while it lasts."""
    door = RunModelDoor(context, models, blobs) if context.settings.sandbox_models else None
    return Grant(context.run_id, context.emit, door)


class RunModelDoor:
    """See `sandbox.gateway.ModelDoor`.

    Args:
        context: The run.
        models: Its models.
        blobs: Keeps prompts and responses.
    """

    def __init__(self, context: AgentContext, models: Models, blobs: Blobs) -> None:
        self._context = context
        self._models = models
        self._accounts = Accounts(context, blobs, models)
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def answer(self, method: str, path: str, body: bytes) -> ModelReply:
        """Answer one call; see the protocol."""
        if path == "/v1/models":
            return ModelReply(200, _document(self._listed()), _JSON)
        wire = _WIRES[path]
        opened = AsyncExitStack()
        try:
            call = await asyncio.to_thread(lambda: wire.read(parse_body(body)))
            await opened.enter_async_context(self._place())
            return await self._answer(wire.dialect, call, opened)
        except Exception as error:
            await opened.aclose()
            return _refusal(wire.dialect, error)
        except BaseException:
            await opened.aclose()
            raise

    async def _answer(self, dialect: Dialect, call: ModelCall, opened: AsyncExitStack) -> ModelReply:
        label, model = await self._models.prepare_named(call.model)
        answering = Answering(self._context, self._accounts, label, model, call)
        opened.push_async_callback(answering.close)
        await answering.begin()
        if call.stream:
            return ModelReply(200, _Streamed(dialect, call, answering, opened), _STREAM)
        answer = await answering.whole()
        await opened.aclose()
        return ModelReply(200, _document(dialect.whole(call.model, answer)), _JSON)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Hold one of the places for calls at once."""
        if self._waiting >= _WAITING:
            raise ModelUnavailable("Too many model calls of this sandbox wait already.", "Make fewer at once.")
        self._waiting += 1
        try:
            async with self._context.meter.deadline():
                await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    def _listed(self) -> dict[str, Any]:
        names = self._models.offered()
        data = [
            {
                **{"id": name, "object": "model", "type": "model", "created": 0, "owned_by": "orchestrion"},
                **{"display_name": name, "created_at": "1970-01-01T00:00:00Z"},
            }
            for name in names
        ]
        return {"object": "list", "data": data, "has_more": False, "first_id": names[0], "last_id": names[-1]}


class _Streamed:
    """An answer written as it comes; however the stream ends, the call is booked and its place given back."""

    def __init__(self, dialect: Dialect, call: ModelCall, answering: Answering, opened: AsyncExitStack) -> None:
        self._encoder = dialect.encoder(call.model, usage=call.usage)
        self._dialect = dialect
        self._answering = answering
        self._opened = opened
        self._pieces = self._written()

    def __aiter__(self) -> _Streamed:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        """End the call."""
        try:
            await self._pieces.aclose()
        finally:
            await self._opened.aclose()

    async def _written(self) -> AsyncGenerator[bytes, None]:
        encoder = self._encoder
        try:
            yield _joined(encoder.start())
            async for kind, text, name in self._answering.parts():
                if kind == "text":
                    yield _joined(encoder.text(text))
                elif kind == "call":
                    yield _joined(encoder.call(text, name))
                else:
                    yield _joined(encoder.arguments(text))
            yield _joined(encoder.end(*await self._answering.settled()))
        except Exception as error:
            yield self._dialect.error_event(*_explained(error))


def _joined(pieces: Iterator[Piece]) -> bytes:
    return b"".join(piece.data for piece in pieces)


def _document(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _refusal(dialect: Dialect, error: Exception) -> ModelReply:
    status, message = _explained(error)
    # Both clients heed this header: what is spent, or wrong, does not mend by itself.
    headers = _JSON | ({} if status >= 500 or status == 429 else {"x-should-retry": "false"})
    return ModelReply(dialect.status(status), _document(dialect.error(status, message)), headers)


def _explained(error: Exception) -> tuple[int, str]:
    """Return the status that an error stands for, and its sentence."""
    if isinstance(error, BadRequest):
        return 400, str(error)
    if isinstance(error, BudgetSpent):
        return 402, f"The run that this sandbox works for has used its budget up: {error}. No more model calls."
    if isinstance(error, RunCancelled):
        return 403, "The run that this sandbox works for was stopped."
    if isinstance(error, NotFound):
        return 404, str(error)
    if is_model_error(error) or isinstance(error, OrchestrionError):
        status = status_of(error)
        busy = 529 if isinstance(explain(error), ModelUnavailable) else 502
        return status if status in _PASSED_ON else busy, str(explain(error))
    if isinstance(error, ValueError | TypeError | KeyError | NotImplementedError):
        return 400, f"The request can't be passed on to this model: {scrub(str(error))[:500]}"
    log.exception("a model call from a sandbox failed", error=str(error))
    return 500, "The model call failed on the host; its log says why."
