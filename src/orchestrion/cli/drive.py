"""Follow a run to its end, stop it when asked to, and turn its end into an exit code."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

from orchestrion.cli.errors import EXIT_BUDGET, EXIT_CANCELLED, EXIT_WAITING, complain
from orchestrion.cli.sink import Writer
from orchestrion.cli.stop import Stop
from orchestrion.core.errors import OrchestrionError
from orchestrion.core.events import Event
from orchestrion.store.models import Run

_CODES = {"run.finished": 0, "run.failed": 1, "run.cancelled": EXIT_CANCELLED, "run.budget_spent": EXIT_BUDGET}
_STATES = {"finished": 0, "cancelled": EXIT_CANCELLED, "budget_spent": EXIT_BUDGET, "waiting": EXIT_WAITING}
# How long a stopped run may take to say so.
_STOP_SECONDS = 2.0
# How long when nobody waits for it any more.
_UNWATCHED_SECONDS = 10.0


class Runs(Protocol):
    """What is needed of the runtime here."""

    def follow(self, run_id: str, *, owner: str | None, after: int = 0) -> AsyncIterator[Event]:
        """Yield a run's events from a number on, until it ends or waits."""
        ...

    async def cancel(self, run_id: str, *, owner: str | None) -> object:
        """Stop a run."""
        ...

    async def get_run(self, run_id: str, *, owner: str | None) -> Run:
        """Return a run as it stands."""
        ...


async def drive(runs: Runs, run_id: str, writer: Writer, stop: Stop, *, after: int = 0) -> int:
    """Show a run until it ends.

    Args:
        runs: The runtime.
        run_id: Of the run.
        writer: Shows the events.
        stop: Ends the run when asked.
        after: The number of the last event already shown.

    Returns:
        The exit code: 0 finished, 1 failed, 3 waiting, 4 budget spent, 130 cancelled.
    """
    pump = asyncio.create_task(_pump(runs, run_id, writer, after))
    asked = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({pump, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not pump.done():
            await _stop(runs, run_id, pump)
        if not pump.done():
            complain(
                "The run has not confirmed that it stopped.", f"`orchestrion runs show {run_id}` says how it stands."
            )
            return EXIT_CANCELLED
        last = pump.result()
    except OSError:  # nobody reads any more: the goal's work would be for nothing
        await _cancel(runs, run_id, _UNWATCHED_SECONDS)
        raise
    finally:
        asked.cancel()
        pump.cancel()
    return _CODES[last] if last else await _code_of_state(runs, run_id)


async def _pump(runs: Runs, run_id: str, writer: Writer, after: int) -> str:
    """Show events until the terminal one; return its type, or nothing if the stream ended without."""
    async for event in runs.follow(run_id, owner=None, after=after):
        await writer.put(event)
        if event.terminal:
            return event.type
    return ""


async def _stop(runs: Runs, run_id: str, pump: asyncio.Task[str]) -> None:
    cancelling = asyncio.create_task(_cancel(runs, run_id, _STOP_SECONDS))
    await asyncio.wait({pump}, timeout=_STOP_SECONDS)
    cancelling.cancel()


async def _cancel(runs: Runs, run_id: str, patience: float) -> None:
    """Ask the run to stop; one that has just ended by itself is no error."""
    with contextlib.suppress(OrchestrionError, TimeoutError):
        await asyncio.wait_for(runs.cancel(run_id, owner=None), patience)


async def _code_of_state(runs: Runs, run_id: str) -> int:
    run = await runs.get_run(run_id, owner=None)
    if run.state == "waiting":
        complain(f"The run {run_id} waits for an answer.", f"`orchestrion runs show {run_id}` shows the question.")
    elif not run.ended:
        complain(f"The run {run_id} goes on elsewhere.", f"`orchestrion runs events {run_id} --follow` follows it.")
    return _STATES.get(run.state, 1)
