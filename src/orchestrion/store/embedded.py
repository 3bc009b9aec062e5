"""The embedded engine: one SQLite file under the data directory, opened and closed as a whole."""

from __future__ import annotations

import os
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

DATABASE = "orchestrion.db"
_PRIVATE = ("workspaces", "traces")


@dataclass
class Store:
    """Everything that is kept, whichever engine keeps it."""

    journal: Journal
    records: Records
    blobs: Blobs
    checkpoints: BaseCheckpointSaver[str]


def _make_home(home: Path) -> None:
    """Make the data directory, and see to it that what we keep in it is for its owner alone.

    A directory that had something in it before keeps its own mode: that may be others' business.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(home.iterdir()):
            _close_to_others(home)
        places = [home / name for name in _PRIVATE]
        for place in places:
            place.mkdir(mode=0o700, exist_ok=True)
        # SQLite gives its journal files the mode of the database.
        os.close(os.open(home / DATABASE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for place in [*places, *home.glob(f"{DATABASE}*")]:
            _close_to_others(place)
    except OSError as error:
        raise StoreError(
            f"{home} can't be used: {error.strerror}.", "Set ORCHESTRION_HOME to a folder of yours."
        ) from None


def _close_to_others(place: Path) -> None:
    info = place.stat()
    if info.st_uid == os.geteuid() and info.st_mode & 0o077:
        place.chmod(info.st_mode & 0o700)


@asynccontextmanager
async def open_embedded(home: Path) -> AsyncIterator[Store]:
    """Open the store under `home`, making it if it is not there.

    Raises:
        StoreError: The folder or the file can't be used.
    """
    from orchestrion.store.checkpoints import open_checkpoints

    _make_home(home)
    database = Database(home / DATABASE)
    await database.open()
    journal = SqliteJournal(database)
    await journal.start()
    try:
        async with open_checkpoints(home / DATABASE) as checkpoints:
            yield Store(journal, SqliteRecords(database), SqliteBlobs(database), checkpoints)
    finally:
        await journal.stop()
        await database.close()
