"""What a provider's error means: whose fault it is, whether to try again, and what the user can do.

Errors are told by their shape (status, body, class names), so that no provider package is imported to read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from orchestrion.core.errors import ModelError, ModelUnavailable, OrchestrionError
from orchestrion.models.secrets import scrub

_TRANSIENT = frozenset({408, 409, 425, 429})
_KINDS = {
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "invalid_request_error": 400,
    "billing_error": 402,
    "insufficient_quota": 402,
}
_NETWORK = frozenset(
    {
        "TransportError",
        "APIConnectionError",
        "ModelConnectionError",
        "ModelTimeoutError",
        "ConnectionError",
        "TimeoutError",
    }
)
_OURS = frozenset({"APIError", "ModelError", "TransportError", "HTTPStatusError"})
_REMEDIES = {
    400: "Change the request or the model's parameters in models.yaml.",
    401: "Check the key: ANTHROPIC_API_KEY or OPENAI_API_KEY, and that it belongs to this endpoint.",
    402: "Add credit to the provider's account, or choose another model with --model.",
    403: "Use a key that may call this model, or choose another with --model.",
    404: "Set ANTHROPIC_MODEL, OPENAI_MODEL or --model to one that this endpoint serves, and check its base URL.",
    413: "Send less: a shorter goal, smaller files, or a model with a larger context.",
    422: "Change the request or the model's parameters in models.yaml.",
}
_TOO_LONG = re.compile(r"prompt is too long|context.{0,12}(?:length|window)|maximum context|too many tokens", re.I)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what caused it, at most five deep."""
    link: BaseException | None = error
    for _ in range(5):
        if link is None:
            return
        yield link
        link = link.__cause__


def _names(error: BaseException) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}


def _inner(error: BaseException) -> Mapping[str, Any]:
    """Return the provider's own error object: `{type, message, code}`, wherever its body keeps it."""
    body = getattr(error, "body", None)
    if not isinstance(body, Mapping):
        return {}
    nested = body.get("error")
    return nested if isinstance(nested, Mapping) else body


def _status(error: BaseException) -> int | None:
    """Return the HTTP status, or the one that an error event inside a stream (itself a 200) stands for."""
    inner = _inner(error)
    kinds = [_KINDS[str(inner.get(key))] for key in ("code", "type") if str(inner.get(key)) in _KINDS]
    if 402 in kinds:
        # A spent quota comes as a 429, but waiting does not fill it.
        return 402
    response = _attribute(error, "response")
    for status in (
        getattr(error, "status_code", None),
        getattr(response, "status_code", None),
        getattr(error, "code", None),
    ):
        if isinstance(status, int) and status >= 400:
            return status
    return kinds[0] if kinds else (500 if inner else None)


def _attribute(error: BaseException, name: str) -> Any:
    """Return an attribute or None; httpx's are properties that raise where nothing was set."""
    with suppress(RuntimeError):
        return getattr(error, name, None)
    return None


def _source(error: BaseException) -> BaseException | None:
    """Return the link of the chain that is a provider's or the network's error, or None."""
    for link in _chain(error):
        if _names(link) & (_NETWORK | _OURS) or _status(link):
            return link
    return None


def is_model_error(error: BaseException) -> bool:
    """Say whether this comes from the model's provider or the way to it."""
    return isinstance(error, ModelError) or (not isinstance(error, OrchestrionError) and _source(error) is not None)


def is_transient(error: BaseException) -> bool:
    """Say whether the same call may succeed later: 429, 5xx, overload, timeouts, lost connections."""
    if isinstance(error, OrchestrionError):
        return isinstance(error, ModelUnavailable)
    source = _source(error)
    if source is None:
        return False
    status = _status(source)
    if status is not None:
        return status in _TRANSIENT or status >= 500
    return bool(_names(source) & _NETWORK) or getattr(source, "is_retryable", False) is True


def retry_after(error: BaseException) -> float | None:
    """Return the seconds that the provider asks to wait, from `retry-after-ms` or `Retry-After`."""
    for link in _chain(error):
        headers = getattr(_attribute(link, "response"), "headers", None)
        if headers is None:
            continue
        with suppress(ValueError, TypeError):
            return (
                max(0.0, float(headers["retry-after-ms"]) / 1000)
                if "retry-after-ms" in headers
                else _seconds(headers)
            )
    return None


def _seconds(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after")
    if value is None:
        return None
    with suppress(ValueError):
        return max(0.0, float(value))
    return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())


def _sent_secrets(error: BaseException) -> list[str]:
    """Return the keys that the failed request carried, so that an echo of them can be masked."""
    headers = getattr(_attribute(error, "request"), "headers", None) or {}
    values = [headers.get("x-api-key", ""), headers.get("authorization", "").partition(" ")[2]]
    return [value for value in values if value]


def _said(error: BaseException) -> str:
    """Return the provider's own words, without keys, on one line."""
    message = _inner(error).get("message") or getattr(error, "message", None) or str(error) or type(error).__name__
    line = " ".join(str(message).split())
    return scrub(line, _sent_secrets(error))[:2000].rstrip(".")


def status_of(error: BaseException) -> int | None:
    """Return the status that the provider answered with, also if the error has been explained; None if it did not."""
    return next((status for link in _chain(error) if (status := _status(link)) is not None), None)


def _unavailable(source: BaseException, status: int | None) -> ModelUnavailable:
    if status is None:
        timed_out = bool(_names(source) & {"TimeoutError", "TimeoutException", "APITimeoutError"})
        what = "did not answer in time" if timed_out else "could not be reached, or the connection broke"
        remedy = "Check the network and the base URL, then try again."
    else:
        reasons = {429: "asks for fewer requests (429)", 529: "is overloaded (529)"}
        what = reasons.get(status, f"failed ({status})")
        remedy = "Try again later, or choose another model with --model."
    return ModelUnavailable(f"The model's provider {what}: {_said(source)}.", remedy)


def explain(error: BaseException) -> OrchestrionError:
    """Return the error a user can read: `ModelUnavailable` where waiting may help, else `ModelError`.

    The provider's own message is in `detail`; a key never is.
    """
    if isinstance(error, OrchestrionError):
        return error
    source = _source(error) or error
    status = _status(source)
    if is_transient(source):
        return _unavailable(source, status)
    said = _said(source)
    remedy = _REMEDIES[413] if _TOO_LONG.search(said) else _REMEDIES.get(status or 0, "")
    return ModelError(f"The model's provider refused the call{f' ({status})' if status else ''}: {said}.", remedy)
