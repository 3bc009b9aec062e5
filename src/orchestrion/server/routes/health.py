"""`/healthz`, `/readyz` and `/metrics`: for those who keep the server running."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from orchestrion.server.metrics import CONTENT_TYPE
from orchestrion.server.readiness import Readiness, ReadyCheck
from orchestrion.server.services import CallerDep

router = APIRouter(tags=["operation"])


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


@router.get("/healthz")
async def healthz() -> Alive:
    """Say that the process is alive."""
    return Alive()


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(caller: CallerDep) -> Response:
    """Say whether runs can be taken, and what is degraded."""
    if caller.services.stopping.is_set():
        readiness = Readiness(status="unavailable", checks=[ReadyCheck(name="server", status="stopping")])
    else:
        readiness = await caller.services.readiness.look(caller.runtime)
    if not caller.owner:
        readiness = Readiness(status=readiness.status)
    code = 503 if readiness.status == "unavailable" else 200
    return JSONResponse(readiness.model_dump(), code, {"Cache-Control": "no-store"})


@router.get("/metrics", response_class=Response)
async def metrics(caller: CallerDep) -> Response:
    """Return the server's figures in Prometheus' text format."""
    body = await asyncio.to_thread(caller.services.metrics.render)
    return Response(body, headers={"Content-Type": CONTENT_TYPE})
