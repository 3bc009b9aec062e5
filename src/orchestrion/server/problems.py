"""Problem documents (RFC 9457): every error of the HTTP face has this one shape."""

from __future__ import annotations

import http
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from orchestrion.core.errors import OrchestrionError

log = structlog.get_logger(__name__)

REQUEST_ID = "orchestrion.request_id"

_ROUTING: dict[int, tuple[str, str, str]] = {
    404: ("not_found", "There is nothing at this address.", "See /docs for what this version offers."),
    405: ("method_not_allowed", "This address does not take that method.", "See /docs for the methods it takes."),
}


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    remedy: str
    request_id: str


class ProblemResponse(JSONResponse):
    """A problem document."""

    media_type = "application/problem+json"


def problem(
    status: int,
    code: str,
    detail: str,
    remedy: str,
    *,
    title: str = "",
    request_id: str = "",
    headers: Mapping[str, str] | None = None,
) -> ProblemResponse:
    """Build one problem document."""
    body = Problem(
        title=title or http.HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        remedy=remedy,
        request_id=request_id,
    )
    return ProblemResponse(body.model_dump(), status_code=status, headers=headers)


def from_error(error: OrchestrionError, request_id: str) -> ProblemResponse:
    """Render one of our own errors."""
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    return problem(
        error.status,
        error.code,
        error.detail,
        error.remedy,
        title=error.title,
        request_id=request_id,
        headers=headers,
    )


def unexpected(request_id: str) -> ProblemResponse:
    """Render an error nobody foresaw: its id, and nothing of our insides."""
    return problem(
        500,
        "internal_error",
        "Something went wrong on our side.",
        f"Try again; the server's log has the cause under request id {request_id}.",
        request_id=request_id,
    )


def _where(location: tuple[Any, ...]) -> str:
    """Name the place of a validation error as its sender would."""
    kind, *rest = location or ("body",)
    name = ".".join(str(part) for part in rest)
    if kind == "body":
        return f"The field `{name}`" if name else "The body"
    return f"The {kind} parameter `{name}`"


def validation_sentence(error: RequestValidationError) -> tuple[str, str]:
    """Return one sentence about the first thing wrong with a request, and the remedy."""
    first = error.errors()[0]
    location, kind = tuple(first["loc"]), first["type"]
    if kind == "json_invalid":
        return "The body is not valid JSON.", "Send one JSON object with Content-Type: application/json."
    where = _where(location)
    if kind == "missing":
        return f"{where} is missing.", "Add it; /docs shows what is expected."
    if kind == "extra_forbidden":
        return f"{where} is not known.", "Remove it; /docs shows what is expected."
    message = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{where} is not right: {message[:1].lower()}{message[1:]}.", "Correct it; /docs shows what is expected."


def _request_id(request: Request) -> str:
    return str(request.scope.get(REQUEST_ID, ""))


async def _on_error(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, OrchestrionError)
    if error.status >= 500:
        log.warning("request failed", code=error.code, detail=error.detail)
    return from_error(error, _request_id(request))


async def _on_validation(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RequestValidationError)
    detail, remedy = validation_sentence(error)
    return problem(422, "invalid_input", detail, remedy, request_id=_request_id(request))


async def _on_http(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, OrchestrionError):  # raised while the framework read the body
        return from_error(error.__cause__, _request_id(request))
    code, detail, remedy = _ROUTING.get(error.status_code, ("http_error", str(error.detail), ""))
    if error.status_code == 400 and "body" in detail:
        code, detail, remedy = "invalid_input", "The body can't be read.", "Send one JSON object in UTF-8."
    return problem(error.status_code, code, detail, remedy, request_id=_request_id(request), headers=error.headers)


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    app.add_exception_handler(OrchestrionError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
