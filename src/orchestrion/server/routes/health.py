"""`/healthz`, `/readyz` and `/metrics`: for those who keep the server running."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, Literal

import structlog
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from orchestrion.server.metrics import CONTENT_TYPE
from orchestrion.server.services import Caller, CallerDep

log = structlog.get_logger(__name__)
router = APIRouter(tags=["operation"])

_DEADLINE = 10.0


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ReadyCheck(BaseModel):
    """One thing that was looked at."""

    name: str
    status: str
    detail: str = ""
    remedy: str = ""


class Readiness(BaseModel):
    """Whether runs can be taken; details only for those who may use the server."""

    status: Literal["ready", "degraded", "unavailable"]
    checks: list[ReadyCheck] = []


@router.get("/healthz")
async def healthz() -> Alive:
    """Say that the process is alive."""
    return Alive()


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(caller: CallerDep) -> Response:
    """Say whether runs can be taken, and what is degraded."""
    readiness = await _readiness(caller)
    if not caller.owner:
        readiness.checks = []
    code = 503 if readiness.status == "unavailable" else 200
    return JSONResponse(readiness.model_dump(), code, {"Cache-Control": "no-store"})


async def _readiness(caller: Caller) -> Readiness:
    if caller.services.stopping.is_set():
        return Readiness(status="unavailable", checks=[ReadyCheck(name="server", status="stopping")])
    try:
        async with asyncio.timeout(_DEADLINE):
            found = await caller.runtime.health()
    except Exception as error:
        log.exception("the health checks failed")
        detail = f"The health checks failed ({type(error).__name__})."
        check = ReadyCheck(name="runtime", status="missing", detail=detail, remedy="The server's log has the cause.")
        return Readiness(status="unavailable", checks=[check])
    return _judge([ReadyCheck(**_fields(check)) for check in found])


def _fields(check: Any) -> dict[str, Any]:
    return check.model_dump() if isinstance(check, BaseModel) else asdict(check)


def _judge(checks: list[ReadyCheck]) -> Readiness:
    """Runs need the store; all else is a degradation that each run names for itself."""
    if any(check.name == "store" and check.status == "missing" for check in checks):
        return Readiness(status="unavailable", checks=checks)
    whole = all(check.status == "ok" for check in checks)
    return Readiness(status="ready" if whole else "degraded", checks=checks)


@router.get("/metrics", response_class=Response)
async def metrics(caller: CallerDep) -> Response:
    """Return the server's figures in Prometheus' text format."""
    body = await asyncio.to_thread(caller.services.metrics.render)
    return Response(body, headers={"Content-Type": CONTENT_TYPE})
