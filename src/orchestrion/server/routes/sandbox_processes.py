"""`/api/sandboxes/{id}/processes` and `…/terminal`: what runs inside, and a shell to look around."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractContextManager
from typing import Annotated

from fastapi import APIRouter, Header, Query, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field

from orchestrion.core.errors import NotFound, OrchestrionError
from orchestrion.sandbox.protocols import Process, ProcessEnd, ProcessInfo, ProcessOutput
from orchestrion.server.process_logs import LogLine
from orchestrion.server.routes.sandboxes import in_use, opened
from orchestrion.server.services import CallerDep
from orchestrion.server.sse import EventStream, parse_position

router = APIRouter(prefix="/api/sandboxes/{sandbox_id}", tags=["sandboxes"])

_SHELL = ("/bin/bash", "-il")
_ENV = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
Columns = Annotated[int, Query(ge=2, le=1000)]


class NewProcess(BaseModel):
    """A process that outlives its request.

    Attributes:
        command: For `bash -c`.
        tag: A name to find it by.
    """

    model_config = ConfigDict(extra="forbid")

    command: str = Field(min_length=1, max_length=200_000)
    cwd: str | None = None
    env: dict[str, str] = Field(default={}, max_length=500)
    user: str | None = None
    tag: str | None = Field(default=None, max_length=200)


class Started(BaseModel):
    """The process's pid inside."""

    pid: int


class ProcessList(BaseModel):
    """The processes that were started through the sandbox and still run."""

    processes: list[ProcessInfo]


@router.get("/processes")
async def list_processes(sandbox_id: str, caller: CallerDep) -> ProcessList:
    """List the processes that were started through the sandbox and still run."""
    return ProcessList(processes=await (await opened(sandbox_id, caller)).processes.list())


@router.post("/processes", status_code=201)
async def start_process(sandbox_id: str, body: NewProcess, caller: CallerDep) -> Started:
    """Start a process that goes on by itself; its log is kept."""
    sandbox = await opened(sandbox_id, caller)
    process = await sandbox.processes.start(
        ("/bin/bash", "-lc", body.command), cwd=body.cwd, env=body.env, user=body.user, tag=body.tag
    )
    caller.services.logs.watch(sandbox, process)
    return Started(pid=process.pid)


@router.delete("/processes/{pid}", status_code=204)
async def kill_process(sandbox_id: str, pid: int, caller: CallerDep) -> None:
    """Kill a process."""
    process = await (await opened(sandbox_id, caller)).processes.connect(pid)
    try:
        if not await process.kill():
            raise NotFound(f"Process {pid} has ended already.")
    finally:
        await process.close()


@router.get("/processes/{pid}/logs", response_class=EventStream, response_model=None)
async def process_logs(
    sandbox_id: str,
    pid: int,
    caller: CallerDep,
    after: Annotated[str, Query()] = "",
    last_event_id: Annotated[str, Header()] = "",
) -> EventStream[LogLine]:
    """Stream a process's log: `stdout`, `stderr` and `pty` (base64), `note`, and last `end` with its exit code."""
    given, name = (last_event_id, "Last-Event-ID") if last_event_id else (after, "after")
    position = parse_position(given, name)
    services = caller.services
    lines = await services.logs.follow(await opened(sandbox_id, caller), pid, position)
    held = caller.runtime.sandboxes().hold(sandbox_id)
    return EventStream(_singly(lines, held), services.stopping, services.metrics, _encode)


async def _singly(
    lines: AsyncIterator[LogLine], held: AbstractContextManager[None]
) -> AsyncGenerator[list[LogLine], None]:
    with held:
        async for line in lines:
            yield [line]


def _encode(line: LogLine) -> bytes:
    return f"id: {line.seq}\nevent: {line.kind}\ndata: {json.dumps(line.data)}\n\n".encode()


@router.websocket("/terminal")
async def terminal(
    websocket: WebSocket, sandbox_id: str, caller: CallerDep, columns: Columns = 80, rows: Columns = 24
) -> None:
    """Run a shell in a terminal.

    Binary messages are what is typed and what is shown; `{"resize": [columns, rows]}` changes the size. The shell
    ends with the connection.
    """
    async with in_use(sandbox_id, caller) as sandbox:
        shell = await sandbox.processes.start(_SHELL, env=_ENV, terminal=(columns, rows), stdin=True)
        try:
            await websocket.accept(subprotocol=_protocol(websocket))
            await _join(websocket, shell)
        finally:
            await _end(shell)


async def _join(websocket: WebSocket, shell: Process) -> None:
    """Pass what is shown and what is typed until one side ends."""
    tasks = [asyncio.create_task(_show(websocket, shell)), asyncio.create_task(_type(websocket, shell))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _protocol(websocket: WebSocket) -> str | None:
    """Confirm the subprotocol under which a browser sends its key."""
    return "orchestrion" if "orchestrion" in websocket.scope.get("subprotocols", []) else None


async def _show(websocket: WebSocket, shell: Process) -> None:
    try:
        async for event in shell.events():
            if isinstance(event, ProcessOutput):
                await websocket.send_bytes(event.data)
            elif isinstance(event, ProcessEnd):
                await websocket.close(1000, f"exit {event.exit_code}")
    except OrchestrionError as error:
        await websocket.close(1011, error.detail[:120])


async def _type(websocket: WebSocket, shell: Process) -> None:
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if (typed := message.get("bytes")) is not None:
                await shell.send(typed)
            elif size := _size(message.get("text") or ""):
                await shell.resize(*size)
    except (WebSocketDisconnect, OrchestrionError):
        return


def _size(text: str) -> tuple[int, int] | None:
    try:
        columns, rows = json.loads(text)["resize"]
        return (int(columns), int(rows)) if 0 < columns <= 1000 and 0 < rows <= 1000 else None
    except (ValueError, KeyError, TypeError):
        return None


async def _end(shell: Process) -> None:
    try:
        async with asyncio.timeout(2):
            await shell.kill()
            await shell.close()
    except (OrchestrionError, TimeoutError):
        pass  # the sandbox is gone, and the shell with it
