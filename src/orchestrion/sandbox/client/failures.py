"""What a sandbox refuses, as our errors."""

from __future__ import annotations

from orchestrion.core.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OrchestrionError,
    PortClosed,
    SandboxError,
    SandboxGone,
)
from orchestrion.sandbox.client.wire import said, value_of

NEW_ONE = "The next request makes a new one."
_BY_CODE: dict[str, type[OrchestrionError]] = {
    "not_found": NotFound,
    "invalid_argument": InvalidInput,
    "out_of_range": InvalidInput,
    "already_exists": Conflict,
}
_BY_STATUS: dict[int, type[OrchestrionError]] = {
    400: InvalidInput,
    404: NotFound,
    409: Conflict,
    410: NotFound,
}


class Overdue(SandboxError):
    """The guest ended a call at the deadline that it was given."""


def gone(sentence: str = "The sandbox has ended.") -> SandboxGone:
    """Return the error for a sandbox that died."""
    return SandboxGone(sentence, NEW_ONE)


def refused(status: int, body: bytes) -> OrchestrionError:
    """Return the error that an HTTP answer stands for.

    Args:
        status: Its status, 400 or more.
        body: What it says: JSON with `code` and `message`, or text.
    """
    code, words = _words(body)
    if status == 502:
        return _unreachable(words)
    if code == "deadline_exceeded":
        return Overdue("The sandbox did not finish in time.")
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, SandboxError)
    return kind(_sentence(words or f"it answered with status {status}"))


def ended(code: str, words: str) -> OrchestrionError:
    """Return the error that the end of a Connect stream stands for."""
    if code == "deadline_exceeded":
        return Overdue("The sandbox did not finish in time.")
    if code == "unavailable":
        return _unreachable(words)
    return _BY_CODE.get(code, SandboxError)(_sentence(words or code))


def _unreachable(words: str) -> SandboxError:
    if "port is not open" in words:
        return PortClosed("Nothing listens on that port in the sandbox.", "Start the server first.")
    return gone()


def _sentence(words: str) -> str:
    return f"The sandbox refused: {said(words)}."


def _words(body: bytes) -> tuple[str, str]:
    try:
        value = value_of(body)
    except SandboxError:
        return "", body[:1000].decode("utf-8", "replace")
    if not isinstance(value, dict):
        return "", str(value)[:1000]
    code, message = value.get("code"), value.get("message")
    return code if isinstance(code, str) else "", message if isinstance(message, str) else ""
