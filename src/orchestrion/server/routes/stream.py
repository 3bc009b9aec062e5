"""A run's events as they come: Server-Sent Events and WebSocket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, WebSocket

from orchestrion.core.events import Event
from orchestrion.server.services import Caller, CallerDep
from orchestrion.server.sockets import serve_socket
from orchestrion.server.sse import EventStream, parse_position

router = APIRouter(tags=["events"])


@router.get("/api/stream/{run_id}", response_class=EventStream)
async def stream(
    run_id: str,
    caller: CallerDep,
    after: Annotated[str, Query()] = "",
    last_event_id: Annotated[str, Header()] = "",
) -> EventStream:
    """Stream a run's events from the one after `Last-Event-ID` (or `after`) to its end."""
    given, name = (last_event_id, "Last-Event-ID") if last_event_id else (after, "after")
    position = parse_position(given, name)
    events = await follow(caller, run_id, position)
    return EventStream(events, caller.services.stopping, caller.services.metrics)


async def follow(caller: Caller, run_id: str, after: int) -> AsyncIterator[Event]:
    """Return the events after `after`; none where the reader has seen the last one.

    Raises:
        NotFound: There is no such run, or it is someone else's.
    """
    run = await caller.runtime.get_run(run_id, owner=caller.owner)
    if after:
        seen = await caller.runtime.events(run_id, owner=caller.owner, after=after - 1, limit=1)
        if seen[0].terminal if seen else run.ended:
            return _nothing()
    return caller.runtime.follow(run_id, owner=caller.owner, after=after)


async def _nothing() -> AsyncIterator[Event]:
    nothing: tuple[Event, ...] = ()
    for event in nothing:
        yield event


@router.websocket("/api/ws")
async def socket(websocket: WebSocket, caller: CallerDep) -> None:
    """Follow any number of runs over one WebSocket: `{"subscribe": run_id, "after": seq}`."""

    async def open_run(run_id: str, after: int) -> AsyncIterator[Event]:
        return await follow(caller, run_id, after)

    await serve_socket(websocket, open_run, caller)
