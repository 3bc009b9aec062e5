"""Try a model call again after errors that pass: exponential backoff with jitter, `Retry-After` honoured."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from orchestrion.core.errors import OrchestrionError
from orchestrion.models.errors import explain, is_model_error, is_transient, retry_after

T = TypeVar("T")
OnRetry = Callable[[int, float, OrchestrionError], Awaitable[None]]

LONGEST_WAIT = 120.0
_backoff = wait_exponential_jitter(0.5, max=30, jitter=0.5)


def _worth_another(error: BaseException) -> bool:
    """A provider that asks for more than two minutes is reported instead of waited for."""
    return is_transient(error) and (retry_after(error) or 0.0) <= LONGEST_WAIT


def _error_of(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    return error or RuntimeError("a retry without an error")


def _wait(state: RetryCallState) -> float:
    asked = retry_after(_error_of(state))
    return _backoff(state) if asked is None else asked


async def with_retries(
    call: Callable[[], Awaitable[T]], *, retries: int, on_retry: OnRetry, attempt_seconds: float | None = None
) -> T:
    """Await `call()` and return its result, trying again after errors that pass.

    Cancelling the task ends it at once, in a call or between two.

    Args:
        call: Makes one attempt.
        retries: Further attempts after the first.
        on_retry: Awaited before each wait with the number of the attempt that failed (from 1), the seconds to wait
            and the error as `explain` gives it.
        attempt_seconds: Longest duration of one attempt in seconds.

    Raises:
        ModelUnavailable: The last attempt failed in passing as well.
        ModelError: The provider refused the call.
        Exception: Whatever else `call` raises that is no model error, unchanged.
    """

    async def attempt() -> T:
        async with asyncio.timeout(attempt_seconds):
            return await call()

    async def before_sleep(state: RetryCallState) -> None:
        wait = state.next_action.sleep if state.next_action else 0.0
        await on_retry(state.attempt_number, wait, explain(_error_of(state)))

    retrying = AsyncRetrying(
        retry=retry_if_exception(_worth_another),
        stop=stop_after_attempt(retries + 1),
        wait=_wait,
        before_sleep=before_sleep,
        sleep=asyncio.sleep,
        reraise=True,
    )
    try:
        return await retrying(attempt)
    except Exception as error:
        if is_model_error(error) and not isinstance(error, OrchestrionError):
            raise explain(error) from error
        raise
