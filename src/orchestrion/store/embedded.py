"""The embedded engine: one SQLite file under the data directory, opened and closed as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrion.core.errors import StoreError
from orchestrion.store.blobs import SqliteBlobs
from orchestrion.store.database import Database
from orchestrion.store.journal import SqliteJournal
from orchestrion.store.protocols import Blobs, Journal, Records
from orchestrion.store.records import SqliteRecords

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver


@dataclass
class Store:
    """Everything that is kept, whichever engine keeps it."""

    journal: Journal
    records: Records
    blobs: Blobs
    checkpoints: BaseCheckpointSaver[str]


def _make_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700) if not any(home.iterdir()) else None
    except OSError as error:
        raise StoreError(
            f"{home} can't be used: {error.strerror}.", "Set ORCHESTRION_HOME to a folder of yours."
        ) from None


@asynccontextmanager
async def open_embedded(home: Path) -> AsyncIterator[Store]:
    """Open the store under `home`, making it if it is not there.

    Raises:
        StoreError: The folder or the file can't be used.
    """
    import aiosqlite
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    _make_home(home)
    database = Database(home / "orchestrion.db")
    await database.open()
    journal = SqliteJournal(database)
    await journal.start()
    connection = await aiosqlite.connect(home / "orchestrion.db", timeout=30)
    try:
        await connection.execute("PRAGMA synchronous=NORMAL")
        saver = AsyncSqliteSaver(connection)
        await saver.setup()
        yield Store(journal, SqliteRecords(database), SqliteBlobs(database), saver)
    finally:
        await journal.stop()
        await connection.close()
        await database.close()
