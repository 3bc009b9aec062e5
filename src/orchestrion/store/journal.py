"""The journal in SQLite: one writer groups the appends that wait, followers are woken without polling.

A follower in this process is served from memory when it is up to date and from the file when it is behind. Events
that another process appends are noticed through SQLite's `data_version`, at most `_FOREIGN_POLL` seconds later.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrion.core.errors import OrchestrionError, StoreError
from orchestrion.core.events import Event, EventBase, event_adapter
from orchestrion.store.database import Database, events

_FOREIGN_POLL = 0.2
_TAIL = 256
_PAGE = 500


@dataclass
class _Pending:
    batch: tuple[EventBase, ...]
    done: asyncio.Future[list[Event]]


@dataclass
class _Tail:
    """The last events of a run that somebody follows, and those who wait for more."""

    recent: list[Event] = field(default_factory=list)
    followers: int = 0
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
        self.wake()

    def wake(self) -> None:
        waiting, self.changed = self.changed, asyncio.Event()
        waiting.set()


class SqliteJournal:
    """See `store.protocols.Journal`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: asyncio.Queue[_Pending] = asyncio.Queue()
        self._tails: defaultdict[str, _Tail] = defaultdict(_Tail)
        self._seen = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the writer and the watcher of other processes."""
        async with self._database.read() as connection:
            self._seen = (await connection.execute(select(func.max(events.c.position)))).scalar() or 0
        self._tasks = [asyncio.create_task(self._write_forever()), asyncio.create_task(self._watch_forever())]

    async def stop(self) -> None:
        """Write what is pending, then stop."""
        if not self._tasks:
            return
        await self._pending.join()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def append(self, *batch: EventBase) -> list[Event]:
        """Append events; see the protocol. The append goes through even if the caller is cancelled meanwhile."""
        done: asyncio.Future[list[Event]] = asyncio.get_running_loop().create_future()
        self._pending.put_nowait(_Pending(batch, done))
        return await asyncio.shield(done)

    async def _write_forever(self) -> None:
        while True:
            group = [await self._pending.get()]
            while not self._pending.empty():
                group.append(self._pending.get_nowait())
            try:
                await self._write(group)
            finally:
                for _ in group:
                    self._pending.task_done()

    async def _write(self, group: list[_Pending]) -> None:
        """Commit a group at once; followers are woken only after the commit."""
        try:
            numbered = await self._database.write(lambda connection: self._insert(connection, group))
        except OrchestrionError as error:
            self._fail(group, error)
            return
        except Exception as error:
            self._fail(group, StoreError(f"The journal could not be written: {error}."))
            return
        for pending, batch in zip(group, numbered, strict=True):
            if not pending.done.done():
                pending.done.set_result(batch)
            self._publish(batch)

    @staticmethod
    def _fail(group: list[_Pending], error: OrchestrionError) -> None:
        for pending in group:
            if not pending.done.done():
                pending.done.set_exception(error)

    @staticmethod
    async def _insert(connection: AsyncConnection, group: list[_Pending]) -> list[list[Event]]:
        last: dict[str, int] = {}
        numbered: list[list[Event]] = []
        rows: list[dict[str, object]] = []
        for pending in group:
            batch: list[Event] = []
            for event in pending.batch:
                if event.run_id not in last:
                    query = select(func.max(events.c.seq)).where(events.c.run_id == event.run_id)
                    last[event.run_id] = (await connection.execute(query)).scalar() or 0
                last[event.run_id] += 1
                stamped: Event = event.model_copy(update={"seq": last[event.run_id]})  # type: ignore[assignment]
                rows.append({"run_id": stamped.run_id, "seq": stamped.seq, "data": stamped.model_dump_json()})
                batch.append(stamped)
            numbered.append(batch)
        await connection.execute(insert(events), rows)
        return numbered

    def _publish(self, batch: list[Event]) -> None:
        by_run: defaultdict[str, list[Event]] = defaultdict(list)
        for event in batch:
            by_run[event.run_id].append(event)
        for run_id, fresh in by_run.items():
            if run_id in self._tails:
                self._tails[run_id].push(fresh)

    async def _watch_forever(self) -> None:
        """Wake the followers of runs that another process has written to."""
        async with self._database.read() as connection:
            version = None
            while True:
                await asyncio.sleep(_FOREIGN_POLL)
                if not self._tails:
                    continue
                with suppress(Exception):
                    found = (await connection.exec_driver_sql("PRAGMA data_version")).scalar_one()
                    if found != version:
                        version = found
                        await self._wake_written(connection)

    async def _wake_written(self, connection: AsyncConnection) -> None:
        query = select(events.c.run_id, func.max(events.c.position), func.max(events.c.seq))
        rows = (await connection.execute(query.where(events.c.position > self._seen).group_by(events.c.run_id))).all()
        for run_id, position, seq in rows:
            self._seen = max(self._seen, position)
            tail = self._tails.get(run_id)
            if tail and (not tail.recent or tail.recent[-1].seq < seq):
                tail.recent = []
                tail.wake()

    async def read(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return events from the file; see the protocol."""
        query = select(events.c.data).where(events.c.run_id == run_id, events.c.seq > after)
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(events.c.seq).limit(limit))).scalars().all()
        return [event_adapter.validate_json(row) for row in rows]

    async def follow(self, run_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """Yield events as they come; see the protocol. A terminal event that was resumed from is not the end."""
        tail = self._tails[run_id]
        tail.followers += 1
        try:
            while True:
                changed = tail.changed
                batch = tail.after(after)
                if batch is None:
                    batch = await self.read(run_id, after=after, limit=_PAGE)
                for event in batch:
                    yield event
                    after = event.seq
                if batch and batch[-1].terminal and not await self.read(run_id, after=after, limit=1):
                    return
                if not batch:
                    await changed.wait()
        finally:
            tail.followers -= 1
            if not tail.followers and self._tails.get(run_id) is tail:
                del self._tails[run_id]
