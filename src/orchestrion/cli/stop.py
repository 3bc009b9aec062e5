"""Ctrl-C and its relatives: the first one stops the run, the second leaves at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from orchestrion.cli.errors import EXIT_CANCELLED
from orchestrion.core.errors import RunCancelled

T = TypeVar("T")

# `timeout` and some shells deliver one request to stop twice; only a later one means "at once".
_ECHO_SECONDS = 0.3


def _leave() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(EXIT_CANCELLED)


class Stop:
    """A request to stop, made by a signal.

    Args:
        notify: Called at the first request, to tell the user.
        leave: Called at the second; ends the process.
    """

    def __init__(self, notify: Callable[[], None] = lambda: None, leave: Callable[[], None] = _leave) -> None:
        self.notify = notify
        self._leave = leave
        self._asked = asyncio.Event()
        self._first = 0.0

    def listen(self) -> None:
        """Take over SIGINT, SIGTERM and, unless it is ignored (`nohup`), SIGHUP. Call it inside the event loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            loop.add_signal_handler(number, self.request)

    def request(self) -> None:
        """Ask to stop; asked again, leave."""
        if not self._asked.is_set():
            self._first = time.monotonic()
            self._asked.set()
            self.notify()
        elif time.monotonic() - self._first > _ECHO_SECONDS:
            self._leave()

    async def wait(self) -> None:
        """Return once somebody has asked."""
        await self._asked.wait()

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work`, and give it up when asked to stop.

        Raises:
            RunCancelled: It was given up.
        """
        task, asked = asyncio.ensure_future(work), asyncio.ensure_future(self.wait())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise RunCancelled("stopped")
            return task.result()
        finally:
            asked.cancel()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
