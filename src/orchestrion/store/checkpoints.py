"""LangGraph's checkpoints in the same SQLite file, failing as the rest of the store does."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from orchestrion.core.errors import StoreError


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        remedy = "Check the disk's free space and permissions."
        raise StoreError(f"A checkpoint can't be kept or read: {error}.", remedy) from error


class SqliteCheckpoints(AsyncSqliteSaver):
    """LangGraph's saver; it raises `StoreError` where that raises SQLite's own errors."""

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint."""
        with _translated():
            return await super().aget_tuple(config)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint."""
        with _translated():
            return await super().aput(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a step has written so far."""
        with _translated():
            await super().aput_writes(config, writes, task_id, task_path)


@asynccontextmanager
async def open_checkpoints(path: Path) -> AsyncIterator[SqliteCheckpoints]:
    """Open the checkpoints in an SQLite file.

    Every statement commits by itself: a step that is cancelled between two of them must not leave the file locked.

    Raises:
        StoreError: The file can't be used.
    """
    with _translated():
        connection = await aiosqlite.connect(path, timeout=30, isolation_level=None)
    try:
        with _translated():
            await connection.execute("PRAGMA synchronous=NORMAL")
            saver = SqliteCheckpoints(connection)
            await saver.setup()
        yield saver
    finally:
        await connection.close()
