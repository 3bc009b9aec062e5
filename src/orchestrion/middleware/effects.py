"""The effects ledger: a tool call that finished is never run twice.

The journal is the ledger. `tool.started` goes in before a tool runs and `tool.finished` with what the model was told
after it. When a run is resumed, a call that finished is answered from there; one that was cut off is run again if it
only reads, and otherwise reported to the model as of unknown outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Literal

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import AgentState, ToolCallRequest
from langchain_core.messages import ToolMessage
from langgraph.types import Command

from orchestrion.core.events import ToolFinished, ToolStarted
from orchestrion.middleware.context import AgentContext, tool_context

Handler = Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]

_UNKNOWN = (
    "The outcome of this call is unknown: the platform was interrupted while it ran, so it may or may not have taken "
    "effect. It was not repeated. Check the state of things before you call it again."
)


def read_only(request: ToolCallRequest) -> bool:
    """Say whether a tool only reads, by its own declaration."""
    metadata = (request.tool.metadata if request.tool else None) or {}
    return bool(metadata.get("read_only"))


class EffectsLedger(AgentMiddleware[AgentState[Any], AgentContext]):
    """Journals each tool call around its run and settles those that a crash cut off."""

    async def awrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> ToolMessage | Command[Any]:
        """Answer from the ledger, or run the tool between its two events."""
        context = tool_context(request)
        call_id = str(request.tool_call["id"])
        settled = context.ledger.finished.get(call_id)
        if settled is not None:
            return _message(request, settled.result, "success" if settled.status == "ok" else "error")
        if call_id in context.ledger.cut_off and not read_only(request):
            await context.emit(_finished(request, "unknown", _UNKNOWN, 0.0))
            return _message(request, _UNKNOWN, "error")
        return await self._run(context, request, handler)

    async def _run(
        self, context: AgentContext, request: ToolCallRequest, handler: Handler
    ) -> ToolMessage | Command[Any]:
        call = request.tool_call
        await context.emit(
            ToolStarted(call_id=str(call["id"]), name=call["name"], args=call["args"], read_only=read_only(request))
        )
        begun = monotonic()
        try:
            answer = await handler(request)
        except asyncio.CancelledError:
            await context.emit(_finished(request, "cancelled", "Stopped.", monotonic() - begun))
            raise
        except Exception as error:
            await context.emit(_finished(request, "error", str(error), monotonic() - begun))
            raise
        failed = isinstance(answer, ToolMessage) and answer.status == "error"
        text = answer.text if isinstance(answer, ToolMessage) else ""
        await context.emit(_finished(request, "error" if failed else "ok", text, monotonic() - begun))
        return answer


def _finished(
    request: ToolCallRequest, status: Literal["ok", "error", "unknown", "cancelled"], result: str, seconds: float
) -> ToolFinished:
    call = request.tool_call
    return ToolFinished(
        call_id=str(call["id"]), name=call["name"], status=status, result=result, seconds=round(seconds, 4)
    )


def _message(request: ToolCallRequest, text: str, status: Literal["success", "error"]) -> ToolMessage:
    call = request.tool_call
    return ToolMessage(content=text, tool_call_id=str(call["id"]), name=call["name"], status=status)
