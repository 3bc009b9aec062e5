"""Threads for work that blocks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor


class Workers(ThreadPoolExecutor):
    """Threads that go on when the sandbox's limit of processes, which threads count for, is used up.

    As long as there is one, more work than threads waits its turn, instead of failing for want of a further thread.
    """

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise

    def begin(self) -> None:
        """Start the first one."""
        self.submit(int)
