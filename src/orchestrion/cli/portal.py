"""An event loop on a thread of its own, so that the main thread can wait for a person and take their Ctrl-C."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Portal:
    """Runs coroutines on another thread; use as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="orchestrion-loop", daemon=True)

    def __enter__(self) -> Portal:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin some work; the future may be waited for on this thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work and wait for it."""
        return self.start(work).result()

    def tell(self, work: Callable[[], None]) -> None:
        """Have something small done on the loop, soon."""
        self._loop.call_soon_threadsafe(work)
