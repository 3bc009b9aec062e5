"""What is kept of an output that may be endless: its beginning and its end."""

from __future__ import annotations

from collections import deque

KEEP = 1024 * 1024


class Capture:
    """Keeps at most `limit` characters; the middle is cut out, and the text says so.

    Args:
        limit: Characters to keep.
    """

    def __init__(self, limit: int = KEEP) -> None:
        self._half = limit // 2
        self._head: list[str] = []
        self._head_size = 0
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self._cut = 0

    def add(self, text: str) -> None:
        """Take a piece."""
        room = self._half - self._head_size
        if room > 0:
            self._head.append(text[:room])
            self._head_size += len(self._head[-1])
            text = text[room:]
        if text:
            self._tail.append(text)
            self._tail_size += len(text)
            self._trim()

    def _trim(self) -> None:
        while self._tail_size > self._half:
            first = self._tail.popleft()
            excess = min(self._tail_size - self._half, len(first))
            self._cut += excess
            self._tail_size -= excess
            if excess < len(first):
                self._tail.appendleft(first[excess:])

    def text(self) -> str:
        """Return what was kept."""
        head, tail = "".join(self._head), "".join(self._tail)
        return f"{head}\n[… {self._cut} characters left out …]\n{tail}" if self._cut else head + tail
