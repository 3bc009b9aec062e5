"""The journal in SQLite; its followers are woken without polling.

A follower in this process is served from memory when it is up to date and from the file when it is behind. Events
that another process appends are noticed at most `_FOREIGN_POLL` seconds later.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import PydanticSerializationError
from sqlalchemy import Connection, func, insert, select

from orchestrion.core.errors import StoreError
from orchestrion.core.events import Event, EventBase, event_adapter
from orchestrion.store.database import Database, events

_FOREIGN_POLL = 0.2
_TAIL = 256
_PAGE = 500


@dataclass
class _Tail:
    """The last events of a run that is carried out here or that somebody follows, and those who wait for more."""

    recent: list[Event] = field(default_factory=list)
    followers: int = 0
    live: bool = False
    broken: StoreError | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def after(self, seq: int) -> list[Event] | None:
        """Return what came after `seq` if memory has all of it, else None."""
        if not self.recent or self.recent[0].seq > seq + 1:
            return None
        return [event for event in self.recent if event.seq > seq]

    def push(self, batch: list[Event]) -> None:
        if self.recent and batch and batch[0].seq != self.recent[-1].seq + 1:
            self.recent = []
        self.recent = [*self.recent, *batch][-_TAIL:]
        self.broken = None
        self.wake()

    def wake(self) -> None:
        waiting, self.changed = self.changed, asyncio.Event()
        waiting.set()


class SqliteJournal:
    """See `store.protocols.Journal`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tails: defaultdict[str, _Tail] = defaultdict(_Tail)
        self._seen = 0
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to watch for what other processes append."""
        self._seen = await self._database.read(_last_position)
        self._watcher = asyncio.create_task(self._watch_forever())

    async def stop(self) -> None:
        """Stop watching."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)

    def append(self, *batch: EventBase) -> Awaitable[list[Event]]:
        """Append events; see the protocol. The append goes through even if the caller is cancelled meanwhile."""
        return self._database.write(lambda connection: _insert(connection, batch), self._publish)

    def _publish(self, batch: list[Event]) -> None:
        by_run: defaultdict[str, list[Event]] = defaultdict(list)
        for event in batch:
            by_run[event.run_id].append(event)
        for run_id, fresh in by_run.items():
            if run_id in self._tails or fresh[0].seq == 1:
                tail = self._tails[run_id]
                tail.live = not fresh[-1].terminal
                tail.push(fresh)
                self._let_go(run_id)

    def _let_go(self, run_id: str) -> None:
        """Forget a tail that nobody needs any more."""
        tail = self._tails[run_id]
        if not tail.followers and not tail.live:
            del self._tails[run_id]

    async def _watch_forever(self) -> None:
        """Wake the followers of runs that another process has written to."""
        while True:
            await asyncio.sleep(_FOREIGN_POLL)
            if self._tails:
                with suppress(StoreError):
                    self._wake_written(await self._database.read(self._written))

    def _written(self, connection: Connection) -> list[tuple[str, int]]:
        """Return the runs that have events past the last position seen, with their last number."""
        query = select(events.c.run_id, func.max(events.c.position), func.max(events.c.seq))
        rows = connection.execute(query.where(events.c.position > self._seen).group_by(events.c.run_id)).all()
        self._seen = max([self._seen, *(position for _, position, _ in rows)])
        return [(run_id, seq) for run_id, _, seq in rows]

    def _wake_written(self, rows: list[tuple[str, int]]) -> None:
        for run_id, seq in rows:
            tail = self._tails.get(run_id)
            if tail and (not tail.recent or tail.recent[-1].seq < seq):
                tail.recent = []
                tail.wake()

    async def read(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return events from the file; see the protocol."""
        query = select(events.c.data).where(events.c.run_id == run_id, events.c.seq > after)
        query = query.order_by(events.c.seq).limit(limit)
        rows = await self._database.read(lambda connection: connection.execute(query).scalars().all())
        return [event_adapter.validate_json(row) for row in rows]

    def break_off(self, run_id: str, error: StoreError) -> None:
        """Raise `error` in a run's followers; see the protocol."""
        if run_id in self._tails:
            self._tails[run_id].broken = error
            self._tails[run_id].wake()

    async def follow(self, run_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """Yield events as they come; see the protocol."""
        async with aclosing(self._batches(run_id, after)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    def follow_batches(self, run_id: str, *, after: int = 0) -> AsyncIterator[list[Event]]:
        """Yield what there is, at once, and then what comes; see the protocol."""
        return self._batches(run_id, after)

    async def _batches(self, run_id: str, after: int) -> AsyncGenerator[list[Event], None]:
        """A terminal event that was resumed from is not the end."""
        tail = self._tails[run_id]
        tail.followers += 1
        try:
            while True:
                changed = tail.changed
                batch = tail.after(after)
                if batch is None:
                    batch = await self.read(run_id, after=after, limit=_PAGE)
                if batch:
                    yield batch
                    after = batch[-1].seq
                    if batch[-1].terminal and not await self.read(run_id, after=after, limit=1):
                        return
                elif tail.broken is not None:
                    raise tail.broken
                else:
                    await changed.wait()
        finally:
            tail.followers -= 1
            if self._tails.get(run_id) is tail:
                self._let_go(run_id)


def _last_position(connection: Connection) -> int:
    return connection.execute(select(func.max(events.c.position))).scalar() or 0


def _insert(connection: Connection, batch: tuple[EventBase, ...]) -> list[Event]:
    """Number events within their runs and insert them."""
    last: dict[str, int] = {}
    numbered: list[Event] = []
    rows: list[dict[str, Any]] = []
    for event in batch:
        if event.run_id not in last:
            query = select(func.max(events.c.seq)).where(events.c.run_id == event.run_id)
            last[event.run_id] = connection.execute(query).scalar() or 0
        last[event.run_id] += 1
        stamped, data = _encoded(event.model_copy(update={"seq": last[event.run_id]}))
        numbered.append(stamped)
        rows.append({"run_id": stamped.run_id, "seq": stamped.seq, "data": data})
    connection.execute(insert(events), rows)
    return numbered


def _encoded(event: Any) -> tuple[Event, str]:
    """Return an event and its JSON; halves of letters, which no encoding can carry, become `?`."""
    try:
        return event, event.model_dump_json()
    except PydanticSerializationError:
        whole = type(event).model_validate(_whole(event.model_dump()))
        return whole, whole.model_dump_json()


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value
