"""Work that blocks, done in threads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from orchestrion.core.errors import SandboxError

_LATER = 0.2

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")


async def in_full(work: Callable[[*_Args], _T], *args: *_Args, abandoned: Callable[[_T], None] | None = None) -> _T:
    """Do work in a thread; if we are cancelled meanwhile, let it come to its end first: nothing is left half done.

    Args:
        work: What to do.
        args: Its arguments.
        abandoned: What becomes of its result if we were cancelled.
    """
    task = asyncio.create_task(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if abandoned is not None and not task.cancelled() and task.exception() is None:
            await asyncio.to_thread(abandoned, task.result())
        raise


async def soon(work: Callable[[], None]) -> None:
    """Do what nobody waits for, once the sandbox that was just made had its first call."""
    await asyncio.sleep(_LATER)
    with contextlib.suppress(SandboxError, OSError):
        await asyncio.to_thread(work)
