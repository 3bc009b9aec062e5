"""`/api/sessions`: conversations."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from orchestrion.server.services import CallerDep
from orchestrion.store.models import Run, Session

router = APIRouter(prefix="/api/sessions", tags=["sessions"])


class SessionTitle(BaseModel):
    """A session's title."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(default="", max_length=500)


class NewTitle(BaseModel):
    """A session's new title."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1, max_length=500, pattern=r"\S")


class Sessions(BaseModel):
    """Sessions, the latest used first."""

    sessions: list[Session]


class SessionDetail(Session):
    """A session with its runs."""

    runs: list[Run]


@router.get("")
async def list_sessions(caller: CallerDep) -> Sessions:
    """List the caller's sessions."""
    return Sessions(sessions=await caller.runtime.list_sessions(owner=caller.owner))


@router.post("", status_code=201)
async def create_session(caller: CallerDep, body: SessionTitle | None = None) -> Session:
    """Begin a session; a goal without one begins its own."""
    return await caller.runtime.create_session(title=body.title if body else "", owner=caller.owner)


@router.get("/{session_id}")
async def get_session(session_id: str, caller: CallerDep) -> SessionDetail:
    """Return a session with its runs."""
    session = await caller.runtime.get_session(session_id, owner=caller.owner)
    runs = await caller.runtime.list_runs(owner=caller.owner, session_id=session_id, limit=1000)
    return SessionDetail(**session.model_dump(), runs=runs)


@router.patch("/{session_id}")
async def rename_session(session_id: str, body: NewTitle, caller: CallerDep) -> Session:
    """Change a session's title."""
    return await caller.runtime.rename_session(session_id, body.title, owner=caller.owner)


@router.delete("/{session_id}", status_code=204)
async def delete_session(session_id: str, caller: CallerDep) -> None:
    """Delete a session with its runs and files."""
    await caller.runtime.delete_session(session_id, owner=caller.owner)
