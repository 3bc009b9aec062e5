"""A process that somebody started, and who listens to it."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from .connect import Message
from .orders import Order
from .outlets import Inlet, Listener, Outlet, event
from .supervisor import Supervised


def end_event(status: int, error: str = "") -> Message:
    """Describe an end, given its wait status, in the words that envd's clients know."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        words = f"signal: {(signal.strsignal(number) or str(number)).lower()}"
        return event("end", {"exitCode": -1, "status": words, "error": error or words})
    code = os.WEXITSTATUS(status)
    end: Message = {"exited": True, "status": f"exit status {code}"}
    if code:
        end |= {"exitCode": code, "error": error or f"exit status {code}"}
    return event("end", end)


class Running:
    """A process that somebody started, until its end has been told to all who listen."""

    def __init__(self, order: Order, program: Supervised, outlets: list[Outlet], inlet: Inlet | None) -> None:
        self.order, self.program = order, program
        self.end: Message | None = None
        self.killing: asyncio.Future[None] | None = None
        self.inlet = inlet
        self.terminal: int | None = None
        self.bound = False
        self.timer: asyncio.TimerHandle | None = None
        self._blocked = 0.0
        self._blocked_at: float | None = None
        self._outlets = outlets
        self._listeners: set[Listener] = set()

    @property
    def pid(self) -> int:
        """The pid of its first process."""
        return self.program.pid

    def listen(self) -> Listener:
        """Return what tells all that happens from now on."""
        listener = Listener(self._resume)
        if self.end is not None:
            listener.tell(self.end)
        else:
            self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Stop telling."""
        self._listeners.discard(listener)
        self._resume()

    def tell(self, kind: str, data: bytes) -> None:
        """Pass output on; what nobody listens to is dropped."""
        for listener in self._listeners:
            listener.tell((kind, data))
        if any(listener.full for listener in self._listeners):
            self._blocked_at = self._blocked_at or time.monotonic()
            for outlet in self._outlets:
                outlet.pause()

    def _resume(self) -> None:
        if not any(listener.full for listener in self._listeners):
            self._count_blocked()
            self._blocked_at = None
            for outlet in self._outlets:
                outlet.resume()

    def take_blocked(self) -> float:
        """Return for how many seconds its listeners have held it up since this was asked last."""
        self._count_blocked()
        seconds, self._blocked = self._blocked, 0.0
        return seconds

    def _count_blocked(self) -> None:
        if self._blocked_at is not None:
            now = time.monotonic()
            self._blocked += now - self._blocked_at
            self._blocked_at = now

    def finish(self, status: int) -> None:
        """Tell its end, after what it has written."""
        for outlet in self._outlets:
            outlet.finish()
        if self.inlet is not None:
            self.inlet.close()
        verdict = self.program.verdict
        if verdict:
            kind = "pty" if self.order.terminal else "stderr"
            self.tell(kind, f"\n[killed: {verdict}]\n".encode())
        self.end = end_event(status, verdict)
        for listener in self._listeners:
            listener.tell(self.end)
        self._listeners.clear()
