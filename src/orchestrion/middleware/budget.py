"""Ends a run that has used up its budget, before the next model call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import AgentState, ModelRequest, ModelResponse

from orchestrion.middleware.context import AgentContext

Handler = Callable[[ModelRequest[AgentContext]], Awaitable[ModelResponse[Any]]]


class BudgetLimit(AgentMiddleware[AgentState[Any], AgentContext]):
    """Checks steps, tokens, money and time before each model call."""

    async def awrap_model_call(self, request: ModelRequest[AgentContext], handler: Handler) -> ModelResponse[Any]:
        """Ask the model if the budget allows it.

        Raises:
            BudgetSpent: It does not.
        """
        meter = request.runtime.context.meter
        meter.check()
        meter.steps += 1
        return await handler(request)
