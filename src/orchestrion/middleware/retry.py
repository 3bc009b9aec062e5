"""Tries a model call again that failed in passing, and says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import AgentState, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage

from orchestrion.core.events import ModelRetried
from orchestrion.middleware.context import AgentContext
from orchestrion.models import explain, require_end, with_retries

T = TypeVar("T")
Handler = Callable[[ModelRequest[AgentContext]], Awaitable[ModelResponse[Any]]]


async def call_with_retries(context: AgentContext, call: Callable[[], Awaitable[T]]) -> T:
    """Run a model call with the retries that the settings allow.

    Raises:
        ModelError: The provider refused it.
        ModelUnavailable: It did not answer in all tries.
    """

    async def retried(attempt: int, wait_seconds: float, error: BaseException) -> None:
        await context.emit(
            ModelRetried(
                attempt=attempt,
                wait_seconds=round(wait_seconds, 2),
                reason=explain(error).detail,
                message_id=context.streaming_message,
            )
        )

    settings = context.settings
    return await with_retries(
        call, retries=settings.model_retries, on_retry=retried, attempt_seconds=settings.model_timeout_seconds
    )


class Retry(AgentMiddleware[AgentState[Any], AgentContext]):
    """Retries an agent's model calls."""

    async def awrap_model_call(self, request: ModelRequest[AgentContext], handler: Handler) -> ModelResponse[Any]:
        """Ask the model, again if need be; see `call_with_retries`."""

        async def call() -> ModelResponse[Any]:
            response = await handler(request)
            for message in response.result:
                if isinstance(message, AIMessage):
                    require_end(message)
            return response

        return await call_with_retries(request.runtime.context, call)
