"""A run's trace, as written under `traces/<run_id>/`, and what the caller has used."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request, Response

from orchestrion.core.errors import NotFound
from orchestrion.server.downloads import file_response
from orchestrion.server.services import CallerDep

router = APIRouter(tags=["traces"])

_TYPES = {"session.json": "application/json", "events.jsonl": "application/x-ndjson"}


@router.get("/api/traces/{run_id}/{name}", response_class=Response)
async def get_trace(
    run_id: str, name: Literal["session.json", "events.jsonl"], request: Request, caller: CallerDep
) -> Response:
    """Return a run's trace: its summary (`session.json`) or every step (`events.jsonl`)."""
    folder: Path = await caller.runtime.trace_path(run_id, owner=caller.owner)
    try:
        file = await asyncio.to_thread((folder / name).open, "rb")
    except FileNotFoundError:
        raise NotFound(f"The run {run_id} has no {name} yet.", "Ask again when the run has ended.") from None
    return file_response(
        file,
        request.headers,
        name=f"{run_id}-{name}",
        media_type=_TYPES[name],
        attachment=False,
        head=False,
        request_id=caller.request_id,
    )


@router.get("/api/usage")
async def usage(caller: CallerDep) -> dict[str, Any]:
    """Return the tokens and the money that the caller's runs have used."""
    return await caller.runtime.usage(owner=caller.owner)
