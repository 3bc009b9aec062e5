"""Every error Orchestrion raises, in one tree.

OrchestrionError                 for users: one sentence, a remedy, a code, an HTTP status, an exit code
├── ConfigError                  a setting is unknown, malformed or missing
├── InvalidInput                 the request can't be carried out as it stands
│   └── UnsafePath               a path that leaves its workspace
├── TooLarge                     an upload or a value over its limit
├── NotFound                     no such session, run, file
├── Conflict                     not in the state that the request needs
├── QuotaExceeded                as many as may run at once do
├── Unauthorized                 no key, or not this key's
├── Forbidden                    from another site's page, or under a name that is not ours
├── ModelError                   the model's provider said no (401, 400, …)
│   └── ModelUnavailable         it did not answer after retries (429, 5xx, overload, network)
├── SandboxError                 a sandbox could not do what was asked
│   ├── SandboxUnavailable       no sandbox can be made here; the remedy says how to change that
│   ├── SandboxGone              it died or was killed; not the same as a command that failed
│   ├── PortClosed               it runs, but nothing listens on that port
│   └── Unsupported              this provider can't do that; said, never ignored
├── FetchRefused                 a URL that may not be fetched, and why
├── FetchFailed                  a URL that could not be fetched
└── StoreError                   the store could not keep what it was given

Signal                           control flow; never swallowed, never shown as a failure
├── RunCancelled                 the user said stop
└── BudgetSpent                  steps, tokens, money or seconds are used up
"""

from __future__ import annotations


class OrchestrionError(Exception):
    """An error a user can read and act on.

    Args:
        detail: One sentence: what is wrong.
        remedy: One sentence: what to do about it; empty when there is nothing to add.
    """

    code = "error"
    status = 500
    exit_code = 1
    title = "Something went wrong"

    def __init__(self, detail: str, remedy: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.detail} {self.remedy}".strip()


class ConfigError(OrchestrionError):
    """A setting is unknown, malformed or missing."""

    code, status, exit_code, title = "config_error", 500, 2, "A setting is wrong"


class InvalidInput(OrchestrionError):
    """The request can't be carried out as it stands."""

    code, status, exit_code, title = "invalid_input", 422, 2, "That request can't be carried out"


class UnsafePath(InvalidInput):
    """A path that leaves its workspace, or passes through a link that might."""

    code, title = "unsafe_path", "That path is not allowed"


class TooLarge(OrchestrionError):
    """An upload or a value over its limit."""

    code, status, exit_code, title = "too_large", 413, 2, "That is too large"


class NotFound(OrchestrionError):
    """No such session, run or file."""

    code, status, exit_code, title = "not_found", 404, 2, "Not found"


class Conflict(OrchestrionError):
    """Not in the state that the request needs."""

    code, status, title = "conflict", 409, "Not possible in this state"


class QuotaExceeded(OrchestrionError):
    """As many sandboxes as may run at once do already."""

    code, status, title = "quota_exceeded", 429, "Too many at once"


class Unauthorized(OrchestrionError):
    """No key, or not this key's."""

    code, status, exit_code, title = "unauthorized", 401, 2, "A key is needed"


class Forbidden(OrchestrionError):
    """Refused whoever asks: a request from another site's page, or under a host name that is not ours."""

    code, status, title = "forbidden", 403, "That request is refused"


class ModelError(OrchestrionError):
    """The model's provider refused the call; `detail` carries the provider's own message."""

    code, status, title = "model_error", 502, "The model refused the call"


class ModelUnavailable(ModelError):
    """The model's provider did not answer after retries (429, 5xx, overload, network)."""

    code, status, title = "model_unavailable", 503, "The model is not available"


class SandboxError(OrchestrionError):
    """A sandbox could not do what was asked."""

    code, title = "sandbox_error", "The sandbox failed"


class SandboxUnavailable(SandboxError):
    """No sandbox can be made here; nothing runs unisolated instead."""

    code, status, title = "sandbox_unavailable", 503, "No sandbox can be made here"


class SandboxGone(SandboxError):
    """The sandbox died or was killed while, or before, it was asked."""

    code, title = "sandbox_gone", "The sandbox is gone"


class PortClosed(SandboxError):
    """The sandbox runs, but nothing listens on that port inside."""

    code, status, title = "port_closed", 502, "Nothing listens on that port"


class Unsupported(SandboxError):
    """The provider can't do what was asked; said, never ignored."""

    code, status, title = "unsupported", 501, "This sandbox can't do that"


class FetchRefused(OrchestrionError):
    """A URL that may not be fetched."""

    code, status, title = "fetch_refused", 403, "That address may not be fetched"


class FetchFailed(OrchestrionError):
    """A URL that could not be fetched."""

    code, status, title = "fetch_failed", 502, "That address could not be fetched"


class StoreError(OrchestrionError):
    """The store could not keep what it was given."""

    code, status, title = "store_error", 507, "The store is in trouble"


class Signal(Exception):
    """Control flow: never swallowed, never shown as a failure."""


class RunCancelled(Signal):
    """The user said stop."""


class BudgetSpent(Signal):
    """A budget is used up.

    Args:
        kind: `steps`, `tokens`, `usd` or `seconds`.
        limit: The limit that was reached, in that unit.
    """

    def __init__(self, kind: str, limit: float) -> None:
        super().__init__(f"the budget of {limit:g} {kind} is spent")
        self.kind = kind
        self.limit = limit
