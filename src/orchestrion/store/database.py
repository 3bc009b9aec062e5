"""The embedded engine's one SQLite file, in WAL mode.

Durability: `synchronous=NORMAL` survives the death of the process at any instant; the last commits before a power cut
may be lost. One thread writes: it takes every write that waits and commits them together, so that a hundred runs cost
a few commits, not hundreds. Other processes wait their turn (`busy_timeout`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.exc import DBAPIError

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
    Column("run_id", String, primary_key=True),
    Column("digest", String, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)


_READERS = 4


def _prepare(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=NORMAL", "cache_size=-16000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@dataclass
class _Write(Generic[T]):
    unit: Callable[[Connection], T]
    then: Callable[[T], None] | None
    done: asyncio.Future[T]
    result: T | None = None
    error: BaseException | None = None

    def settle(self) -> None:
        if self.error is None and self.then is not None:
            self.then(self.result)  # type: ignore[arg-type]
        if self.done.done():
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)  # type: ignore[arg-type]


class Database:
    """Connections to the SQLite file.

    Args:
        path: The file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = create_engine(
            f"sqlite:///{path}", isolation_level="AUTOCOMMIT", pool_size=_READERS + 2, max_overflow=0
        )
        event.listen(self._engine, "connect", _prepare)
        self._writer = ThreadPoolExecutor(1, "orchestrion-write")
        self._readers = ThreadPoolExecutor(_READERS, "orchestrion-read")
        self._waiting: list[_Write[Any]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Make the tables that are missing.

        Raises:
            StoreError: The file can't be used, or a newer version of Orchestrion wrote it.
        """
        await self.write(self._make_tables)

    def _make_tables(self, connection: Connection) -> None:
        found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if found > SCHEMA_VERSION:
            raise StoreError(f"{self.path} was written by a newer version of Orchestrion.", "Upgrade Orchestrion.")
        if found < SCHEMA_VERSION:
            metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")

    async def close(self) -> None:
        """Finish the writes that wait, then close every connection."""
        while self._flushing is not None and not self._flushing.done():
            await self._flushing
        self._closed = True
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        self._engine.dispose()

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """Run `unit` on a reader's thread and return its result.

        Raises:
            StoreError: The file can't be read.
        """
        if self._closed:
            raise StoreError("The database is closed: this process is ending.")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, unit)

    def _read(self, unit: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return unit(connection)
        except DBAPIError as error:
            raise _store_error(error) from error

    def write(self, unit: Callable[[Connection], T], then: Callable[[T], None] | None = None) -> asyncio.Future[T]:
        """Queue `unit` for the next transaction, undone if it raises; its result comes once it is committed.

        The call itself fixes the order of writes, not the waiting for them. A write goes through to its end even if
        its caller is cancelled meanwhile: half a write is no write.

        Args:
            unit: Does the writing.
            then: Called with the result on the event loop, even if nobody waits for it any more.

        Raises:
            StoreError: It could not be kept, for instance because the disk is full.
        """
        if self._closed:
            raise StoreError("The database is closed: this process is ending.")
        write = _Write(unit, then, asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        return write.done

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            await loop.run_in_executor(self._writer, self._commit, group)
            for write in group:
                write.settle()

    def _commit(self, group: list[_Write[Any]]) -> None:
        """Carry a group of writes out in one transaction; one that raises is undone by itself."""
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    for write in group:
                        _attempt(connection, write)
                    connection.exec_driver_sql("COMMIT")
                except BaseException:
                    with suppress(DBAPIError):  # a full disk has undone it already
                        connection.exec_driver_sql("ROLLBACK")
                    raise
        except DBAPIError as error:
            _fail(group, _store_error(error))
        except Exception as error:
            _fail(group, StoreError(f"The database could not be written: {error}."))


def _attempt(connection: Connection, write: _Write[Any]) -> None:
    connection.exec_driver_sql("SAVEPOINT unit")
    try:
        write.result = write.unit(connection)
    except Exception as error:
        write.error = _store_error(error) if isinstance(error, DBAPIError) else error
        try:
            connection.exec_driver_sql("ROLLBACK TO unit")
        except DBAPIError:
            raise error from None  # a full disk has undone the whole group: say that, not its consequence
    connection.exec_driver_sql("RELEASE unit")


def _fail(group: list[_Write[Any]], error: StoreError) -> None:
    for write in group:
        write.error = write.error or error


def _store_error(error: DBAPIError) -> StoreError:
    return StoreError(f"The database can't be used: {error.orig}.", "Check the disk's free space and permissions.")
