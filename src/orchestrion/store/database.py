"""The embedded engine's one SQLite file, in WAL mode.

Durability: `synchronous=NORMAL` survives the death of the process at any instant; the last commits before a power cut
may be lost. Writes are serialised within the process; other processes wait their turn (`busy_timeout`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Column, Index, Integer, LargeBinary, MetaData, String, Table, Text, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from orchestrion.core.errors import StoreError

T = TypeVar("T")

SCHEMA_VERSION = 1
metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", String, primary_key=True),
    Column("owner", String, nullable=False, index=True),
    Column("updated_at", String, nullable=False),
    Column("data", Text, nullable=False),
)
runs = Table(
    "runs",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("session_id", String, nullable=False, index=True),
    Column("state", String, nullable=False, index=True),
    Column("worker", String),
    Column("cancel_requested", Integer, nullable=False, default=0),
    Column("data", Text, nullable=False),
)
events = Table(
    "events",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("data", Text, nullable=False),
    Index("events_run_seq", "run_id", "seq", unique=True),
)
blobs = Table(
    "blobs",
    metadata,
    Column("digest", String, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)


def _prepare(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000", "cache_size=-16000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class Database:
    """Connections to the SQLite file.

    Args:
        path: The file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine: AsyncEngine = create_async_engine(
            f"sqlite+aiosqlite:///{path}", isolation_level="AUTOCOMMIT", pool_size=8, max_overflow=8
        )
        event.listen(self._engine.sync_engine, "connect", _prepare)
        self._writing = asyncio.Lock()
        self._writes: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Make the tables that are missing.

        Raises:
            StoreError: The file can't be used, or a newer version of Orchestrion wrote it.
        """
        await self.write(self._make_tables)

    async def _make_tables(self, connection: AsyncConnection) -> None:
        found = (await connection.exec_driver_sql("PRAGMA user_version")).scalar_one()
        if found > SCHEMA_VERSION:
            raise StoreError(f"{self.path} was written by a newer version of Orchestrion.", "Upgrade Orchestrion.")
        if found < SCHEMA_VERSION:
            await connection.run_sync(metadata.create_all)
            await connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")

    async def close(self) -> None:
        """Wait for the writes that are under way, then close every connection."""
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection to read with.

        Raises:
            StoreError: The file can't be read.
        """
        try:
            async with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise _store_error(error) from error

    async def write(self, unit: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `unit` in a transaction that is committed at its end, or undone by an exception.

        The transaction goes through to its end even if the caller is cancelled meanwhile: half a write is no write.

        Raises:
            StoreError: It could not be kept, for instance because the disk is full.
        """
        task = asyncio.create_task(self._transact(unit))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)

    async def _transact(self, unit: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        try:
            async with self._writing, self._engine.connect() as connection:
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    result = await unit(connection)
                except BaseException:
                    await connection.exec_driver_sql("ROLLBACK")
                    raise
                await connection.exec_driver_sql("COMMIT")
                return result
        except DBAPIError as error:
            raise _store_error(error) from error


def _store_error(error: DBAPIError) -> StoreError:
    return StoreError(f"The database can't be used: {error.orig}.", "Check the disk's free space and permissions.")
