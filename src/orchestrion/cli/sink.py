"""Where a run's events go: a person's screen or JSON lines.

Writing happens on a thread of its own, one event after the other: a reader that is slow (`| less`) must hold up
neither the run, which lives on the event loop, nor Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Protocol

from orchestrion.cli.render import View, render
from orchestrion.core.events import Event

_TICK_SECONDS = 0.12


class Sink(Protocol):
    """Takes events, in order."""

    def put(self, event: Event) -> None:
        """Show one event."""
        ...

    def stopping(self) -> None:
        """The user asked to stop."""
        ...

    def tick(self) -> None:
        """Time has passed."""
        ...


class JsonSink:
    """One event a line on stdout, and nothing else there."""

    def put(self, event: Event) -> None:
        """Write the event as it is in the journal."""
        sys.stdout.buffer.write(event.model_dump_json().encode("utf-8", "replace") + b"\n")
        sys.stdout.buffer.flush()

    def stopping(self) -> None:
        """Say so on stderr; stdout is for events."""
        print("Stopping… (Ctrl-C again leaves at once)", file=sys.stderr, flush=True)

    def tick(self) -> None:
        """Nothing moves here."""


class ScreenSink:
    """Progress for people.

    Args:
        view: The rendering's state.
        hint: What a second Ctrl-C does.
    """

    def __init__(self, view: View, hint: str = " (Ctrl-C again leaves at once)") -> None:
        self.view = view
        self._hint = hint

    def put(self, event: Event) -> None:
        """Render the event."""
        render(self.view, event)
        self.view.screen.console.file.flush()

    def stopping(self) -> None:
        """Say that it heard."""
        self.view.stopping = True
        self.view.screen.line((f"Stopping…{self._hint}", "yellow"))
        self.view.busy("")
        self.view.screen.console.file.flush()

    def tick(self) -> None:
        """Move the status line."""
        self.view.screen.tick()


class Writer:
    """Does the sink's writing on a thread, in order."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="orchestrion-output")

    async def put(self, event: Event) -> None:
        """Show one event; returns when it has been written."""
        await self._do(lambda: self._sink.put(event))

    def stopping(self) -> None:
        """Have the user told that the run is being stopped; one that has just ended needs no telling."""
        with contextlib.suppress(RuntimeError):
            self._thread.submit(self._sink.stopping)

    async def _do(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            await self._do(self._sink.tick)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Writer]:
        """Keep the status line moving meanwhile."""
        ticker = asyncio.create_task(self._tick())
        try:
            yield self
        finally:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await ticker
            self._thread.shutdown(wait=False, cancel_futures=True)
