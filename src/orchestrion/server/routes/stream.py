"""A run's events as they come: Server-Sent Events and WebSocket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header, Query, WebSocket

from orchestrion.core.events import Event
from orchestrion.server.services import Caller, CallerDep
from orchestrion.server.sockets import serve_socket
from orchestrion.server.sse import EventStream, encode, parse_position

router = APIRouter(tags=["events"])


@router.get("/api/stream/{run_id}", response_class=EventStream, response_model=None)
async def stream(
    run_id: str,
    caller: CallerDep,
    after: Annotated[str, Query()] = "",
    last_event_id: Annotated[str, Header()] = "",
) -> EventStream[Event]:
    """Stream a run's events from the one after `Last-Event-ID` (or `after`) to its end."""
    given, name = (last_event_id, "Last-Event-ID") if last_event_id else (after, "after")
    position = parse_position(given, name)
    events = await follow(caller, run_id, position)
    return EventStream(events, caller.services.stopping, caller.services.metrics, encode)


async def follow(caller: Caller, run_id: str, after: int) -> AsyncIterator[list[Event]]:
    """Return the events after `after` as they come, what is there together, up to the end of the run.

    Raises:
        NotFound: There is no such run, or it is someone else's.
    """
    batches = caller.runtime.follow_batches(run_id, owner=caller.owner, after=after)
    if after == 0:
        # The first event is there as soon as the run is, so asking for it asks for the run too, and that only once.
        return _chain(await anext(batches), batches)
    run = await caller.runtime.get_run(run_id, owner=caller.owner)
    if run.ended:
        seen = await caller.runtime.events(run_id, owner=caller.owner, after=after - 1, limit=2)
        if not seen or (seen[-1].seq == after and seen[-1].terminal):
            return _nothing()
    return batches


async def _chain(first: list[Event], rest: AsyncGenerator[list[Event], None]) -> AsyncGenerator[list[Event], None]:
    async with aclosing(rest):
        yield first
        async for batch in rest:
            yield batch


async def _nothing() -> AsyncGenerator[list[Event], None]:
    nothing: tuple[list[Event], ...] = ()
    for batch in nothing:
        yield batch


@router.websocket("/api/ws")
async def socket(websocket: WebSocket, caller: CallerDep) -> None:
    """Follow any number of runs over one WebSocket: `{"subscribe": run_id, "after": seq}`."""

    async def open_run(run_id: str, after: int) -> AsyncIterator[list[Event]]:
        return await follow(caller, run_id, after)

    await serve_socket(websocket, open_run, caller)
