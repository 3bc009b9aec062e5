"""`/api/runs`: what was asked and how it stands."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from orchestrion.core.events import Event
from orchestrion.server.services import CallerDep
from orchestrion.store.models import Run

router = APIRouter(prefix="/api/runs", tags=["runs"])

_SEQ_MAX = 10**18


class Runs(BaseModel):
    """Runs, newest first."""

    runs: list[Run]


class Events(BaseModel):
    """Events in order; `last_seq` is where to go on from."""

    events: list[Event]
    last_seq: int


@router.get("")
async def list_runs(
    caller: CallerDep,
    session_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Runs:
    """List the caller's runs, of one session or of all."""
    return Runs(runs=await caller.runtime.list_runs(owner=caller.owner, session_id=session_id, limit=limit))


@router.get("/{run_id}")
async def get_run(run_id: str, caller: CallerDep) -> Run:
    """Return one run."""
    return await caller.runtime.get_run(run_id, owner=caller.owner)


@router.get("/{run_id}/events", response_model=Events)
async def get_events(
    run_id: str,
    caller: CallerDep,
    after: Annotated[int, Query(ge=0, le=_SEQ_MAX)] = 0,
    limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
) -> Response:
    """Return the events after a number, a page at a time."""
    events = await caller.runtime.events(run_id, owner=caller.owner, after=after, limit=limit)
    last = events[-1].seq if events else after
    body = ",".join(event.model_dump_json() for event in events)
    return Response(f'{{"events":[{body}],"last_seq":{last}}}', media_type="application/json")


@router.post("/{run_id}/cancel", status_code=202)
async def cancel(run_id: str, caller: CallerDep) -> Run:
    """Stop a run; its processes end within two seconds."""
    return await caller.runtime.cancel(run_id, owner=caller.owner)


@router.post("/{run_id}/resume", status_code=202)
async def resume(run_id: str, caller: CallerDep) -> Run:
    """Take an interrupted run up again from its last checkpoint."""
    return await caller.runtime.resume(run_id, owner=caller.owner)
