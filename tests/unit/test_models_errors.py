"""What a provider's error is turned into, and when a call is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anthropic
import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.core.errors import BudgetSpent, ModelError, ModelUnavailable, NotFound, OrchestrionError
from orchestrion.models import explain, is_model_error, is_transient, retry_after, scrub, with_retries


class Provider(Exception):
    """An error with the attributes that provider packages give theirs."""

    def __init__(
        self, status: int | None, body: object = None, headers: dict[str, str] | None = None, key: str = ""
    ) -> None:
        super().__init__(f"Error code: {status} - {body}")
        self.body = body
        request = httpx.Request("POST", "http://h", headers={"x-api-key": key, "authorization": f"Bearer {key}"})
        self.request = request
        if status:
            self.status_code = status
            self.response = httpx.Response(status, headers=headers, request=request)


def said(kind: str, message: str = "their words") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(400, "parameters"), (401, "key"), (403, "key"), (404, "MODEL"), (413, "less"), (422, "param")],
)
def test_a_refusal_carries_the_providers_words_and_a_remedy(status: int, remedy: str) -> None:
    error = explain(Provider(status, said("invalid_request_error")))
    assert type(error) is ModelError
    assert "their words" in error.detail
    assert str(status) in error.detail
    assert remedy in error.remedy


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_what_passes_is_unavailable_and_transient(status: int) -> None:
    error = Provider(status, said("api_error"))
    assert is_transient(error)
    assert isinstance(explain(error), ModelUnavailable)
    assert "their words" in explain(error).detail


@pytest.mark.parametrize(
    ("kind", "transient"), [("overloaded_error", True), ("api_error", True), ("authentication_error", False)]
)
def test_an_error_event_inside_a_stream_counts_by_its_kind(kind: str, transient: bool) -> None:
    error = Provider(200, said(kind))
    assert is_transient(error) is transient
    assert is_model_error(error)


def test_a_spent_quota_is_not_tried_again_though_it_is_a_429() -> None:
    error = Provider(429, {"message": "You exceeded your quota", "code": "insufficient_quota"})
    assert not is_transient(error)
    assert "credit" in explain(error).remedy


def test_a_prompt_that_is_too_long_says_to_send_less() -> None:
    error = explain(Provider(400, said("invalid_request_error", "prompt is too long: 2 > 1")))
    assert "Send less" in error.remedy


def test_the_real_packages_errors_are_understood() -> None:
    request = openai.APIConnectionError(request=httpx.Request("POST", "http://h"))  # type: ignore[arg-type]
    assert is_transient(request)
    assert "could not be reached" in explain(request).detail
    timeout = anthropic.APITimeoutError(request=httpx.Request("POST", "http://h"))  # type: ignore[arg-type]
    assert "in time" in explain(timeout).detail


@pytest.mark.parametrize(
    "error", [httpx.RemoteProtocolError("peer closed"), TimeoutError(), ConnectionResetError("x")]
)
def test_the_network_breaking_is_transient(error: Exception) -> None:
    assert is_transient(error)
    assert type(explain(error)) is ModelUnavailable


def test_a_wrapped_error_is_found_by_its_cause() -> None:
    wrapper = RuntimeError("agent failed")
    wrapper.__cause__ = Provider(529, said("overloaded_error"))
    assert is_transient(wrapper)
    assert "overloaded (529)" in explain(wrapper).detail


def test_other_errors_are_not_the_models() -> None:
    assert not is_model_error(ValueError("x"))
    assert not is_model_error(NotFound("x"))
    assert not is_transient(ValueError("x"))
    assert explain(NotFound("x")).code == "not_found"


@pytest.mark.parametrize(
    "key", ["sk-ant-api03-abcdefghijk", "sk-proj-1234567890", "gsk_abcdefghijkl", "AIzaSyA1234567890", "house-key-9"]
)
def test_a_key_the_provider_echoes_is_masked(key: str) -> None:
    error = explain(Provider(401, said("authentication_error", f"Incorrect API key provided: {key}."), key=key))
    assert key not in str(error)
    assert "Incorrect API key" in error.detail


@given(st.text())
def test_scrubbing_never_fails_and_leaves_no_secret(text: str) -> None:
    assert "s3cret" not in scrub(f"{text}s3cret{text}", ["s3cret"]).replace(text, "")


def test_scrubbing_leaves_plain_words() -> None:
    assert scrub("risk-free, sky-high and task-based") == "risk-free, sky-high and task-based"


def test_retry_after_is_read_in_its_three_forms() -> None:
    assert retry_after(Provider(429, headers={"retry-after": "7"})) == 7
    assert retry_after(Provider(429, headers={"retry-after-ms": "250", "retry-after": "7"})) == 0.25
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    asked = retry_after(Provider(429, headers={"retry-after": moment}))
    assert asked is not None
    assert 50 < asked <= 60
    assert retry_after(Provider(429, headers={"retry-after": "soon"})) is None
    assert retry_after(Provider(429)) is None


class Calls:
    """A call that fails with each error in turn, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.made = 0
        self.retries: list[tuple[int, float, OrchestrionError]] = []

    async def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    async def on_retry(self, attempt: int, wait: float, error: OrchestrionError) -> None:
        self.retries.append((attempt, wait, error))


def overloaded(seconds: float = 0) -> Provider:
    return Provider(529, said("overloaded_error"), {"retry-after": f"{seconds}"})


async def test_retries_until_it_works_and_tells_each() -> None:
    calls = Calls(overloaded(), overloaded(0.01))
    assert await with_retries(calls, retries=2, on_retry=calls.on_retry) == "done"
    assert [(attempt, wait) for attempt, wait, _ in calls.retries] == [(1, 0), (2, 0.01)]
    assert all(isinstance(error, ModelUnavailable) for _, _, error in calls.retries)


async def test_gives_up_after_the_last_retry_with_the_explained_error() -> None:
    calls = Calls(*[overloaded() for _ in range(5)])
    with pytest.raises(ModelUnavailable, match="overloaded"):
        await with_retries(calls, retries=2, on_retry=calls.on_retry)
    assert calls.made == 3


@pytest.mark.parametrize("error", [Provider(401, said("authentication_error")), overloaded(3600)])
async def test_does_not_retry_what_waiting_will_not_mend(error: Exception) -> None:
    calls = Calls(error)
    with pytest.raises(ModelError):
        await with_retries(calls, retries=3, on_retry=calls.on_retry)
    assert calls.made == 1


@pytest.mark.parametrize("error", [ValueError("bug"), BudgetSpent("usd", 1)])
async def test_other_errors_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await with_retries(Calls(error), retries=3, on_retry=Calls().on_retry)
    assert caught.value is error


async def test_backs_off_without_a_retry_after_and_can_be_cancelled_meanwhile() -> None:
    waiting = asyncio.Event()
    waits: list[float] = []

    async def on_retry(attempt: int, wait: float, error: OrchestrionError) -> None:
        waits.append(wait)
        waiting.set()

    task = asyncio.create_task(with_retries(Calls(Provider(503)), retries=1, on_retry=on_retry))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waits[0] >= 0.5


async def test_an_attempt_that_hangs_is_ended_and_counted() -> None:
    async def hang() -> str:
        await asyncio.Event().wait()
        return "never"

    call: Callable[[], Awaitable[str]] = hang
    with pytest.raises(ModelUnavailable, match="in time"):
        await with_retries(call, retries=0, on_retry=Calls().on_retry, attempt_seconds=0.01)
