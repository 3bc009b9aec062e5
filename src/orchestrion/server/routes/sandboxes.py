"""`/api/sandboxes`: isolated computers, their commands and code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from orchestrion.core.errors import InvalidInput, NotFound, OrchestrionError
from orchestrion.sandbox.protocols import (
    CodeResult,
    CommandResult,
    Language,
    Metrics,
    Network,
    Sandbox,
    SandboxSpec,
    Snapshot,
    State,
)
from orchestrion.sandbox.registry import Held
from orchestrion.server.leaving import while_connected
from orchestrion.server.services import Caller, CallerDep

router = APIRouter(prefix="/api/sandboxes", tags=["sandboxes"])
snapshots = APIRouter(prefix="/api/snapshots", tags=["sandboxes"])

_WEEK = 7 * 24 * 3600


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Egress(_Body):
    """What a sandbox may reach: host names, `*.example.com`, addresses, CIDR blocks, or `*`."""

    allow: list[str] = Field(default=[], max_length=500)
    deny: list[str] = Field(default=[], max_length=500)
    registries: bool = False


class NewSandbox(_Body):
    """A sandbox to make.

    Attributes:
        session_id: Make it for this session, with its workspace; all but `provider` is then the settings' matter.
        template: `base`, `code-interpreter-v1`, a template that was built, or a snapshot's id.
        provider: Who makes it; by default what SANDBOX_MODE says.
        seconds: How long it may live; then `on_timeout` happens.
        root: Whether code may become root inside.
    """

    session_id: str | None = None
    template: str = Field(default="base", min_length=1, max_length=200)
    provider: str | None = None
    seconds: float = Field(default=3600, gt=0, le=_WEEK)
    on_timeout: Literal["kill", "pause"] = "kill"
    auto_resume: bool = False
    env: dict[str, str] = Field(default={}, max_length=500)
    metadata: dict[str, str] = Field(default={}, max_length=100)
    network: Egress = Egress()
    root: bool = False


class SandboxView(BaseModel):
    """A sandbox as it stands."""

    id: str
    provider: str
    state: State
    session_id: str | None
    template: str
    created_at: datetime
    ends_at: datetime | None
    on_timeout: Literal["kill", "pause"]
    metadata: dict[str, str]
    memory_mb: int
    root: bool
    network: Egress


class SandboxList(BaseModel):
    """Sandboxes, oldest first."""

    sandboxes: list[SandboxView]


class Pause(_Body):
    """How to pause: with its processes, or its files alone."""

    memory: bool = True


class Resume(_Body):
    """How to resume; `seconds` sets its time anew."""

    memory: bool = True
    seconds: float | None = Field(default=None, gt=0, le=_WEEK)


class Fork(_Body):
    """How many copies, and how long they live."""

    count: int = Field(default=1, ge=1, le=16)
    seconds: float | None = Field(default=None, gt=0, le=_WEEK)


class Forked(BaseModel):
    """The copies; what could not be made is said."""

    sandboxes: list[SandboxView]
    errors: list[str]


class Exec(_Body):
    """A shell command."""

    command: str = Field(min_length=1, max_length=200_000)
    cwd: str | None = None
    env: dict[str, str] = Field(default={}, max_length=500)
    user: str | None = None
    timeout: float = Field(default=120, gt=0, le=24 * 3600)


class Code(_Body):
    """A cell for a live interpreter."""

    code: str = Field(max_length=1_000_000)
    language: Language = "python"
    context: str | None = None
    env: dict[str, str] = Field(default={}, max_length=500)
    timeout: float = Field(default=120, gt=0, le=24 * 3600)


class Timeout(_Body):
    """How long it may live from now on."""

    seconds: float = Field(gt=0, le=_WEEK)


class SnapshotName(_Body):
    """What to call a snapshot."""

    name: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")


class SnapshotList(BaseModel):
    """Snapshots, newest first."""

    snapshots: list[Snapshot]


def view(held: Held) -> SandboxView:
    """Show a sandbox."""
    spec, network = held.info.spec, held.info.spec.network
    return SandboxView(
        id=held.info.id,
        provider=held.info.provider,
        state=held.info.state,
        session_id=spec.session_id,
        template=spec.template,
        created_at=held.info.created_at,
        ends_at=held.ends_at,
        on_timeout=held.on_timeout,
        metadata=dict(spec.metadata),
        memory_mb=spec.limits.memory_mb,
        root=spec.root,
        network=Egress(allow=list(network.allow), deny=list(network.deny), registries=network.registries),
    )


async def owned(sandbox_id: str, caller: Caller) -> Held:
    """Return a sandbox of the caller's.

    Raises:
        NotFound: There is none, or it is another owner's.
    """
    held = await caller.runtime.sandboxes().held(sandbox_id)
    if held.info.spec.owner != caller.owner:
        raise NotFound(f"There is no sandbox {sandbox_id}.", "`GET /api/sandboxes` lists yours.")
    return held


async def opened(sandbox_id: str, caller: Caller) -> Sandbox:
    """Return a running sandbox of the caller's; one that is paused and may wake by traffic is resumed.

    Raises:
        NotFound: There is none, or it is another owner's.
        Conflict: It is paused.
    """
    await owned(sandbox_id, caller)
    return await caller.runtime.sandboxes().open(sandbox_id, traffic=True)


@asynccontextmanager
async def in_use(sandbox_id: str, caller: Caller) -> AsyncGenerator[Sandbox, None]:
    """Yield a sandbox as `opened` does; it is not paused for want of use meanwhile."""
    sandbox = await opened(sandbox_id, caller)
    with caller.runtime.sandboxes().hold(sandbox_id):
        yield sandbox


@router.get("")
async def list_sandboxes(caller: CallerDep, session_id: str | None = None) -> SandboxList:
    """List the caller's sandboxes."""
    held = await caller.runtime.sandboxes().all(caller.owner)
    return SandboxList(
        sandboxes=[view(one) for one in held if session_id is None or one.info.spec.session_id == session_id]
    )


@router.post("", status_code=201)
async def create_sandbox(caller: CallerDep, body: NewSandbox | None = None) -> SandboxView:
    """Make a sandbox of your own, or a session's."""
    wanted = body or NewSandbox()
    if wanted.session_id is not None:
        return await _of_session(wanted.session_id, wanted.provider, caller)
    sandboxes = caller.runtime.sandboxes()
    spec = SandboxSpec(
        owner=caller.owner,
        template=wanted.template,
        limits=sandboxes.limits,
        env=wanted.env,
        metadata=wanted.metadata,
        network=Network(tuple(wanted.network.allow), tuple(wanted.network.deny), wanted.network.registries),
        root=wanted.root,
    )
    sandbox = await sandboxes.create(
        spec,
        provider=wanted.provider,
        seconds=wanted.seconds,
        on_timeout=wanted.on_timeout,
        auto_resume=wanted.auto_resume,
    )
    return view(await sandboxes.held(sandbox.id))


async def _of_session(session_id: str, provider: str | None, caller: Caller) -> SandboxView:
    await caller.runtime.get_session(session_id, owner=caller.owner)
    root = caller.runtime.workspace(session_id).root
    await asyncio.to_thread(root.mkdir, parents=True, exist_ok=True)
    sandboxes = caller.runtime.sandboxes()
    acquired = await sandboxes.acquire(session_id, root, provider, owner=caller.owner)
    return view(await sandboxes.held(acquired.sandbox.id))


@router.get("/{sandbox_id}")
async def get_sandbox(sandbox_id: str, caller: CallerDep) -> SandboxView:
    """Return a sandbox."""
    return view(await owned(sandbox_id, caller))


@router.delete("/{sandbox_id}", status_code=204)
async def remove_sandbox(sandbox_id: str, caller: CallerDep) -> None:
    """End a sandbox and forget it."""
    await owned(sandbox_id, caller)
    await caller.runtime.sandboxes().remove(sandbox_id)


@router.post("/{sandbox_id}/pause")
async def pause_sandbox(sandbox_id: str, caller: CallerDep, body: Pause | None = None) -> SandboxView:
    """Stop a sandbox; its files are kept, and its processes where the provider can."""
    await owned(sandbox_id, caller)
    sandboxes = caller.runtime.sandboxes()
    await sandboxes.pause(sandbox_id, memory=(body or Pause()).memory)
    return view(await sandboxes.held(sandbox_id))


@router.post("/{sandbox_id}/resume")
async def resume_sandbox(sandbox_id: str, caller: CallerDep, body: Resume | None = None) -> SandboxView:
    """Let a paused sandbox go on."""
    await owned(sandbox_id, caller)
    wanted, sandboxes = body or Resume(), caller.runtime.sandboxes()
    await sandboxes.resume(sandbox_id, memory=wanted.memory, seconds=wanted.seconds)
    return view(await sandboxes.held(sandbox_id))


@router.post("/{sandbox_id}/fork", status_code=201)
async def fork_sandbox(sandbox_id: str, caller: CallerDep, body: Fork | None = None) -> Forked:
    """Copy a sandbox; it goes on meanwhile."""
    await owned(sandbox_id, caller)
    wanted, sandboxes = body or Fork(), caller.runtime.sandboxes()
    made = await sandboxes.fork(sandbox_id, seconds=wanted.seconds, count=wanted.count)
    copies = [view(await sandboxes.held(one.id)) for one in made if not isinstance(one, OrchestrionError)]
    return Forked(sandboxes=copies, errors=[str(one) for one in made if isinstance(one, OrchestrionError)])


@router.post("/{sandbox_id}/timeout")
async def set_timeout(sandbox_id: str, body: Timeout, caller: CallerDep) -> SandboxView:
    """Set how long a sandbox may live from now on."""
    await owned(sandbox_id, caller)
    sandboxes = caller.runtime.sandboxes()
    await sandboxes.set_deadline(sandbox_id, body.seconds)
    return view(await sandboxes.held(sandbox_id))


@router.put("/{sandbox_id}/network")
async def set_network(sandbox_id: str, body: Egress, caller: CallerDep) -> SandboxView:
    """Change what a sandbox may reach."""
    held = await owned(sandbox_id, caller)
    if held.info.spec.session_id is not None:
        raise InvalidInput(
            "What a session's sandbox may reach is set by the settings alone.",
            "Set ORCHESTRION_SANDBOX_EGRESS, or make a sandbox of your own.",
        )
    sandboxes = caller.runtime.sandboxes()
    await sandboxes.set_network(sandbox_id, Network(tuple(body.allow), tuple(body.deny), body.registries))
    return view(await sandboxes.held(sandbox_id))


@router.post("/{sandbox_id}/exec")
async def exec_command(sandbox_id: str, body: Exec, request: Request, caller: CallerDep) -> CommandResult:
    """Run a shell command to its end; leaving early ends it with all that it started."""
    async with in_use(sandbox_id, caller) as sandbox:
        work = sandbox.run_command(body.command, timeout=body.timeout, cwd=body.cwd, env=body.env, user=body.user)
        return await while_connected(request, work)


@router.post("/{sandbox_id}/code")
async def run_code(sandbox_id: str, body: Code, request: Request, caller: CallerDep) -> CodeResult:
    """Run a cell in a live interpreter, which keeps its variables."""
    async with in_use(sandbox_id, caller) as sandbox:
        work = sandbox.run_code(
            body.code, language=body.language, context=body.context, env=body.env, timeout=body.timeout
        )
        return await while_connected(request, work)


@router.get("/{sandbox_id}/metrics")
async def metrics(sandbox_id: str, caller: CallerDep) -> Metrics:
    """Say what a sandbox uses now."""
    return await (await opened(sandbox_id, caller)).metrics()


@router.post("/{sandbox_id}/snapshots", status_code=201)
async def take_snapshot(sandbox_id: str, caller: CallerDep, body: SnapshotName | None = None) -> Snapshot:
    """Keep a sandbox's file system, as a template for others."""
    await owned(sandbox_id, caller)
    return await caller.runtime.sandboxes().snapshot(sandbox_id, body.name if body else None)


@snapshots.get("")
async def list_snapshots(caller: CallerDep, sandbox_id: Annotated[str | None, Query()] = None) -> SnapshotList:
    """List the caller's snapshots."""
    kept = await caller.runtime.sandboxes().snapshots(caller.owner)
    return SnapshotList(snapshots=[one for one in kept if sandbox_id in (None, one.sandbox_id)])


@snapshots.delete("/{snapshot_id}", status_code=204)
async def remove_snapshot(snapshot_id: str, caller: CallerDep) -> None:
    """Forget a snapshot; sandboxes made of it live on."""
    await caller.runtime.sandboxes().remove_snapshot(snapshot_id, caller.owner)
