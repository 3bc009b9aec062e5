"""Turns a tool's failure into an answer the model can act on; what ends the run goes through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import AgentState, ToolCallRequest
from langchain_core.messages import ToolMessage
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command
from pydantic import ValidationError

from orchestrion.core.errors import OrchestrionError, SandboxGone, SandboxUnavailable, Signal, StoreError
from orchestrion.middleware.context import AgentContext, tool_context

Handler = Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]

log = structlog.get_logger(__name__)

_GRACE = 30.0
_LOST = (
    "The sandbox was lost while this ran: live variables are gone, files are kept. The next call gets a new sandbox; "
    "import and load again what you need."
)


class ToolErrors(AgentMiddleware[AgentState[Any], AgentContext]):
    """Gives every tool a deadline and every failure one clear sentence."""

    async def awrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> ToolMessage | Command[Any]:
        """Run the tool; answer with its failure, except where nothing could go on.

        Raises:
            SandboxUnavailable: Nothing can run isolated here, so nothing runs.
            StoreError: What happens could no longer be kept.
            Signal: The run was stopped or its budget is spent.
        """
        limit = tool_context(request).settings.tool_timeout_seconds
        timeout = asyncio.timeout(limit + _GRACE)
        try:
            async with timeout:
                return await handler(request)
        except (SandboxUnavailable, StoreError, Signal, GraphBubbleUp):
            raise
        except SandboxGone:
            return _failed(request, _LOST)
        except OrchestrionError as error:
            return _failed(request, str(error))
        except ValidationError as error:
            return _failed(request, f"The arguments don't fit: {error}")
        except Exception as error:
            name = request.tool_call["name"]
            if timeout.expired():
                return _failed(request, f"{name} took longer than {limit:g} seconds and was ended.")
            log.exception("a tool failed unexpectedly", tool=name)
            return _failed(request, f"{name} failed unexpectedly: {type(error).__name__}: {error}")


def _failed(request: ToolCallRequest, text: str) -> ToolMessage:
    call = request.tool_call
    return ToolMessage(content=text, tool_call_id=str(call["id"]), name=call["name"], status="error")
