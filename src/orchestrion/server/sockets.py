"""The WebSocket face: many runs over one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import structlog
from fastapi import WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrion.core.errors import InvalidInput, OrchestrionError
from orchestrion.core.events import Event
from orchestrion.server.problems import Problem
from orchestrion.server.services import Caller
from orchestrion.server.sse import SEND_SECONDS

log = structlog.get_logger(__name__)

Open: TypeAlias = Callable[[str, int], Awaitable[AsyncIterator[list[Event]]]]
MAX_RUNS = 100


class Command(BaseModel):
    """What a client may send: one of the two names, with a run id."""

    model_config = ConfigDict(extra="forbid")

    subscribe: str | None = None
    unsubscribe: str | None = None
    after: int = Field(default=0, ge=0, le=10**18)


def _parse(text: str) -> Command:
    try:
        command = Command.model_validate_json(text)
    except ValidationError:
        command = Command()
    if (command.subscribe is None) == (command.unsubscribe is None):
        raise InvalidInput(
            "That message is not understood.", 'Send {"subscribe": run_id, "after": seq} or {"unsubscribe": run_id}.'
        )
    return command


class _Socket:
    def __init__(self, websocket: WebSocket, open_run: Open, caller: Caller) -> None:
        self._websocket = websocket
        self._open_run = open_run
        self._caller = caller
        self._following: dict[str, asyncio.Task[None]] = {}

    async def _send(self, text: str) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await self._websocket.send_text(text)

    async def _refuse(self, error: OrchestrionError, run_id: str = "") -> None:
        problem = Problem(
            title=error.title,
            status=error.status,
            code=error.code,
            detail=error.detail,
            remedy=error.remedy,
            request_id=self._caller.request_id,
        )
        message = {"type": "error", "run_id": run_id, "problem": problem.model_dump()}
        await self._websocket.send_json(message)

    async def handle(self, text: str) -> None:
        """Carry out one message; what is wrong with it is said, and the connection goes on."""
        try:
            command = _parse(text)
        except InvalidInput as error:
            await self._refuse(error)
            return
        if command.unsubscribe is not None:
            await self._stop(command.unsubscribe)
        elif command.subscribe is not None:
            await self._subscribe(command.subscribe, command.after)

    async def _subscribe(self, run_id: str, after: int) -> None:
        await self._stop(run_id)
        try:
            if len(self._following) >= MAX_RUNS:
                raise InvalidInput(f"One connection follows at most {MAX_RUNS} runs.", "Unsubscribe from some.")
            batches = await self._open_run(run_id, after)
        except OrchestrionError as error:
            await self._refuse(error, run_id)
            return
        task = asyncio.create_task(self._follow(batches))
        self._following[run_id] = task
        task.add_done_callback(lambda done: self._forget(run_id, done))

    def _forget(self, run_id: str, task: asyncio.Task[None]) -> None:
        if self._following.get(run_id) is task:
            del self._following[run_id]
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, WebSocketDisconnect):
            log.error("a subscription broke off", run_id=run_id, exc_info=error)

    async def _follow(self, batches: AsyncIterator[list[Event]]) -> None:
        metrics = self._caller.services.metrics
        with metrics.streams.labels("ws").track_inprogress():
            try:
                async for batch in batches:
                    for event in batch:
                        await self._send(event.model_dump_json())
                    metrics.events.inc(len(batch))
            finally:
                if isinstance(batches, AsyncGenerator):
                    await batches.aclose()

    async def _stop(self, run_id: str) -> None:
        if task := self._following.pop(run_id, None):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """End every subscription."""
        for run_id in list(self._following):
            await self._stop(run_id)


async def serve_socket(websocket: WebSocket, open_run: Open, caller: Caller) -> None:
    """Serve one WebSocket until its client leaves.

    Args:
        websocket: Not yet accepted.
        open_run: Returns a run's events after a number.
        caller: Who is asking.
    """
    await websocket.accept()
    socket = _Socket(websocket, open_run, caller)
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await socket.handle(message.get("text") or "")
    except WebSocketDisconnect:
        pass  # It left while something was being sent.
    finally:
        await socket.close()
