"""Supervisors made ahead: forking the daemon takes longer than most commands run, so a small process does it.

The nursery is a Python of its own that has imported next to nothing. It makes supervisors, each with a child that
waits for its orders, and hands them to the daemon, so that starting a program costs but one `exec`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from .launching import become_subreaper, fork_supervisor
from .limits import offer_memory
from .seccomp import set_dumpable

if TYPE_CHECKING:
    import asyncio

_SPARE = 4
_REFILL_SECONDS = 0.003
_CONTROL = 3
_WAIT_SECONDS = 1.0
_PATIENCE = 3


class Nursery:
    """The daemon's side: takes supervisors from the nursery, or makes them itself while there is none."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._leaders: set[int] = set()
        self._ready = False
        self._spares: deque[tuple[int, socket.socket]] = deque()
        self._waiting: deque[asyncio.Future[tuple[int, socket.socket]]] = deque()
        self._losses = 0

    @property
    def sessions(self) -> frozenset[int]:
        """The sessions of what the daemon and its nurseries, also those that were lost, have made for themselves."""
        return frozenset((os.getsid(0), *self._leaders))

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the nursery."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        code = f"import sys; sys.path.insert(0, {home!r}); from guestd.nursery import serve; serve()"
        argv = [sys.executable, "-I", "-S", "-B", "-c", code]
        actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), _CONTROL)]
        try:
            pid = os.posix_spawn(argv[0], argv, {"PATH": os.defpath}, file_actions=actions, setsid=True)
        except OSError:
            ours.close()
            return
        finally:
            theirs.close()
        ours.setblocking(False)
        self._control = ours
        self._leaders.add(pid)
        self._ask(_SPARE)
        loop.add_reader(ours, self._brought, loop)

    async def take(self) -> tuple[int, socket.socket]:
        """Return a supervisor's pid and channel.

        Raises:
            OSError: No process could be made.
        """
        if self._control is None or not self._ready:
            return fork_supervisor()
        if not self._spares:
            self._ask(1)
            return await self._next()
        self._refill_soon()
        return self._spares.popleft()

    def _refill_soon(self) -> None:
        """Ask for another one, but not before the program at hand has begun: a fork would get in its way."""
        # Only what runs in the daemon has a loop; the nursery imports this module too.
        import asyncio

        asyncio.get_running_loop().call_later(_REFILL_SECONDS, self._ask, 1)

    async def _next(self) -> tuple[int, socket.socket]:
        import asyncio

        wanted: asyncio.Future[tuple[int, socket.socket]] = asyncio.get_running_loop().create_future()
        self._waiting.append(wanted)
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                return await wanted
        except TimeoutError:
            return fork_supervisor()

    def _ask(self, count: int) -> None:
        # A nursery that was killed is noticed where it is read from.
        with contextlib.suppress(OSError):
            if self._control is not None:
                self._control.send(b"+" * count)

    def _brought(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take a supervisor that the nursery has made."""
        assert self._control is not None
        try:
            data, fds, _, _ = socket.recv_fds(self._control, 64, 1)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._lost(loop)
        elif fds:
            self._ready = True
            self._spares.append((int(data), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fds[0])))
            self._serve_waiting(None)
        else:
            self._serve_waiting(BlockingIOError("no process could be made"))

    def _serve_waiting(self, error: OSError | None) -> None:
        while self._waiting and (self._spares or error):
            wanted = self._waiting.popleft()
            if wanted.done():
                continue
            if error is None:
                wanted.set_result(self._spares.popleft())
            else:
                wanted.set_exception(error)
                return

    def _lost(self, loop: asyncio.AbstractEventLoop) -> None:
        """Go on without it, and have another unless they are lost again and again."""
        assert self._control is not None
        loop.remove_reader(self._control)
        self._control.close()
        self._control, self._ready = None, False
        while self._waiting:
            wanted = self._waiting.popleft()
            if not wanted.done():
                try:
                    wanted.set_result(fork_supervisor())
                except OSError as error:
                    wanted.set_exception(error)
        self._losses += 1
        if self._losses <= _PATIENCE:
            self.open(loop)

    def close(self, loop: Any) -> None:
        """Let the nursery end, and the supervisors in it."""
        if self._control is not None:
            loop.remove_reader(self._control)
            self._control.close()
            self._control = None
        for _, channel in self._spares:
            channel.close()
        self._spares.clear()


NURSERY = Nursery()


def serve() -> None:
    """In the nursery: make as many supervisors as are asked for, until the daemon is gone."""
    offer_memory()
    set_dumpable(False)
    become_subreaper()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The kernel collects those that end.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # What is forked writes to none of the pages that hold what is there now.
    gc.disable()
    gc.freeze()
    with socket.socket(fileno=_CONTROL) as control:
        control.set_inheritable(False)
        while asked := control.recv(64):
            for _ in asked:
                _hand_over(control)


def _hand_over(control: socket.socket) -> None:
    try:
        pid, channel = fork_supervisor(readable=True)
    except OSError:
        control.send(b"none")
        return
    with channel:
        socket.send_fds(control, [b"%d" % pid], [channel.fileno()])
