"""The runtime as the command line opens it: with its logs kept off the user's screen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrion.cli.quiet import calm_logs
from orchestrion.core.settings import Settings
from orchestrion.runtime import Runtime


@asynccontextmanager
async def opened(settings: Settings, *, worker: bool = True) -> AsyncIterator[Runtime]:
    """Open the runtime.

    Args:
        settings: The effective settings.
        worker: Whether this process carries out runs.
    """
    async with Runtime(settings, worker=worker) as runtime:
        calm_logs(settings)
        yield runtime
