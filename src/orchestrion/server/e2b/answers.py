"""Answers in E2B's shapes: JSON, and errors as `{"code", "message"}`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.responses import Response

from orchestrion.core.errors import InvalidInput, OrchestrionError, SandboxGone, Unsupported

# A client repeats these by itself, also a POST, unless it is told not to.
_REPEATED = frozenset({429, 502, 503, 504})


class Refusal(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status, also the body's `code`.
        message: One sentence.
        error_code: What a client may tell errors of one status apart by.
    """

    def __init__(self, status: int, message: str, error_code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error_code = error_code

    def response(self) -> Response:
        """Return it as an answer."""
        body: dict[str, Any] = {"code": self.status, "message": self.message}
        if self.error_code:
            body["error_code"] = self.error_code
        headers = {"Should-Retry": "false"} if self.status in _REPEATED else {}
        return answer(body, self.status, headers)


def refusal(error: OrchestrionError) -> Refusal:
    """Return one of our errors in E2B's terms."""
    status = error.status
    if isinstance(error, InvalidInput | Unsupported):
        status = 400
    elif isinstance(error, SandboxGone):
        status = 404
    return Refusal(status, str(error))


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return JSON."""
    return Response(orjson.dumps(body), status, headers, "application/json")


def nothing() -> Response:
    """Return 204."""
    return Response(status_code=204)


def timestamp(moment: datetime) -> str:
    """Return RFC 3339 in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
