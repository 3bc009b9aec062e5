"""The service process.Process: start, follow, feed, signal and list processes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator

from . import connect
from .config import Config
from .connect import Message, RpcError, ping_seconds, timeout_seconds
from .http import Request, Routes
from .orders import Order, object_in
from .outlets import Inlet, Item, Listener, Outlet, encode, event
from .pty import open_terminal, resize
from .running import Running
from .supervisor import Launch, NotStarted, Supervised, end_or_die
from .users import User, environment, resolve, rpc_user

_KEPT_SECONDS = 30
_REAP_SECONDS = 2
_SLACK_SECONDS = 0.01
_SHORT_SECONDS = 0.01
_SIGNALS = {"SIGNAL_SIGKILL": signal.SIGKILL, "SIGNAL_SIGTERM": signal.SIGTERM, 9: signal.SIGKILL, 15: signal.SIGTERM}


class ProcessService:
    """Answers the calls of process.Process.

    Args:
        config: Users, variables, limits.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._running: dict[int, Running] = {}
        self._ended: dict[int, Running] = {}

    # Starting.

    async def start(self, message: Message, request: Request) -> AsyncGenerator[Message | bytes, None]:
        """Start a process and follow it.

        With `Orchestrion-Bind: call`, it and everything it started end with the call.
        """
        order, user, seconds = Order.read(message), rpc_user(request, self._config), timeout_seconds(request)
        bound = request.headers.get("orchestrion-bind") == "call"
        running, listener = await self._started(order, user, seconds, bound=bound)
        running.bound = bound
        try:
            async for item in self._follow(running, listener, ping_seconds(request)):
                yield item
            if running.killing is not None:
                raise RpcError("deadline_exceeded", f"The process was killed: its {seconds:g} s were over.")
        finally:
            running.leave(listener)
            if bound and running.end is None:
                await end_or_die(running.program)

    async def _started(
        self, order: Order, user: User, seconds: float | None, *, bound: bool
    ) -> tuple[Running, Listener]:
        starting = asyncio.ensure_future(self._start(order, user, seconds))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if bound:
                running, _ = await starting
                await end_or_die(running.program)
            raise

    async def _start(self, order: Order, user: User, seconds: float | None) -> tuple[Running, Listener]:
        cwd = self._directory(order, user)
        ours, theirs = _descriptors(order, user)
        try:
            program = await Supervised.start(self._launch(order, user, cwd, theirs))
        except OSError as error:
            for fd in set(ours.values()):
                os.close(fd)
            if isinstance(error, NotStarted):
                raise RpcError("invalid_argument", f"error starting process '{order.cmd}': {error}") from None
            raise RpcError("resource_exhausted", f"error starting process '{order.cmd}': {error}") from None
        finally:
            for fd in set(theirs.values()):
                os.close(fd)
        return self._enrol(order, program, ours, seconds)

    def _directory(self, order: Order, user: User) -> str:
        cwd = resolve(order.cwd or self._config.workdir or "", user)
        if not os.path.isdir(cwd):
            raise RpcError("invalid_argument", f"cwd '{cwd}' does not exist")
        return cwd

    def _launch(self, order: Order, user: User, cwd: str, fds: dict[int, int]) -> Launch:
        return Launch(
            argv=[order.cmd, *order.args],
            cwd=cwd,
            fds=fds,
            limits=self._config.limits,
            env={**environment(user, self._config), **order.envs},
            user=user,
            allow_root=self._config.allow_root,
            terminal=order.terminal,
        )

    def _enrol(
        self, order: Order, program: Supervised, ours: dict[str, int], seconds: float | None
    ) -> tuple[Running, Listener]:
        outlets: list[Outlet] = []
        stdin = ours.get("stdin")
        running = Running(order, program, outlets, None if stdin is None else Inlet(stdin))
        # The caller listens from the first byte on.
        listener = running.listen()
        outlets += [Outlet(kind, fd, running.tell) for kind, fd in ours.items() if kind != "stdin"]
        if order.terminal:
            running.terminal = ours["stdin"]
        self._running[program.pid] = running
        self._ended.pop(program.pid, None)
        loop = asyncio.get_running_loop()
        running.timer = None if seconds is None else loop.call_later(seconds, self._expire, running)
        program.ended.add_done_callback(lambda ended: self._finish(running, ended.result()))
        return running, listener

    def _expire(self, running: Running) -> None:
        # A caller that takes its time over the output shortens its own time, not the process's.
        held_up = running.take_blocked() if running.bound else 0
        if held_up > _SLACK_SECONDS:
            running.timer = asyncio.get_running_loop().call_later(held_up, self._expire, running)
        else:
            running.killing = asyncio.ensure_future(end_or_die(running.program))

    def _finish(self, running: Running, status: int) -> None:
        if running.timer is not None:
            running.timer.cancel()
        running.finish(status)
        if self._running.get(running.pid) is running:
            del self._running[running.pid]
        self._ended[running.pid] = running
        asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._forget, running)

    def _forget(self, running: Running) -> None:
        if self._ended.get(running.pid) is running:
            del self._ended[running.pid]

    # Following.

    async def connect(self, message: Message, request: Request) -> AsyncGenerator[Message | bytes, None]:
        """Follow a process that runs, or learn how one ended a moment ago."""
        running = self._find(message, late=True)
        listener = running.listen()
        try:
            async for item in self._follow(running, listener, ping_seconds(request)):
                yield item
        finally:
            running.leave(listener)

    async def _follow(self, running: Running, listener: Listener, ping: float) -> AsyncIterator[Message | bytes]:
        if running.bound:
            # Nobody has use for the start by itself: all of a short command is told in one go.
            await asyncio.wait({running.program.ended}, timeout=_SHORT_SECONDS)
        yield event("start", {"pid": running.pid})
        while True:
            item: Item | None = await listener.next(ping)
            if item is None:
                yield event("keepalive")
            elif isinstance(item, tuple):
                yield encode(item)
            else:
                if running.killing is not None:
                    await asyncio.shield(running.killing)
                else:
                    yield item
                return

    async def list(self, _message: Message, _request: Request) -> Message:
        """Say what runs."""
        return {"processes": [_listed(running) for running in self._running.values()]}

    # Input and signals.

    async def send_input(self, message: Message, request: Request) -> Message:
        """Write to a process's input or terminal."""
        await self._feed(self._find(message), message, request)
        return {}

    async def stream_input(self, messages: AsyncIterator[Message], request: Request) -> Message:
        """Write to it, again and again."""
        running: Running | None = None
        async for message in messages:
            if "start" in message:
                running = self._find(object_in(message, "start"))
            elif running is None:
                raise RpcError("invalid_argument", "The first message must name the process.")
            elif "data" in message:
                await self._feed(running, object_in(message, "data"), request)
        return {}

    async def _feed(self, running: Running, message: Message, request: Request) -> None:
        given = object_in(message, "input")
        kind = "pty" if "pty" in given else "stdin"
        if (kind == "pty") != running.order.terminal:
            raise RpcError(
                "internal", f"process {running.pid} has {'no terminal' if kind == 'pty' else 'a terminal'}"
            )
        try:
            data = base64.b64decode(given.get(kind) or "", validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise RpcError("invalid_argument", "The input must be base64.") from None
        if running.inlet is None or not running.inlet.open:
            raise RpcError("internal", f"the input of process {running.pid} is not open, or was closed")
        await _unless_gone(running.inlet, data, request)

    async def close_stdin(self, message: Message, _request: Request) -> Message:
        """End a process's input."""
        running = self._find(message)
        if running.order.terminal:
            raise RpcError("internal", f"process {running.pid} has a terminal: send it Ctrl-D instead")
        if running.inlet is None or not running.inlet.open:
            raise RpcError("internal", f"the input of process {running.pid} is not open, or was closed")
        running.inlet.close()
        return {}

    async def send_signal(self, message: Message, _request: Request) -> Message:
        """Signal a process itself, not what it started; answer once a killed one is gone."""
        running = self._find(message)
        number = _SIGNALS.get(message.get("signal", 0))
        if number is None:
            raise RpcError("unimplemented", "Only SIGNAL_SIGKILL and SIGNAL_SIGTERM can be sent.")
        running.program.signal(number)
        if number == signal.SIGKILL:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REAP_SECONDS):
                    await running.program.wait()
        return {}

    async def update(self, message: Message, _request: Request) -> Message:
        """Change the size of a process's terminal."""
        running = self._find(message)
        if message.get("pty") is None:
            return {}
        if running.terminal is None:
            raise RpcError("failed_precondition", f"process {running.pid} has no terminal")
        resize(running.terminal, object_in(message, "pty").get("size"))
        return {}

    def _find(self, message: Message, *, late: bool = False) -> Running:
        selector = object_in(message, "process")
        known = {**self._ended, **self._running} if late else self._running
        if "tag" in selector:
            found = next((running for running in known.values() if running.order.tag == selector["tag"]), None)
            if found is None:
                raise RpcError("not_found", f"process with tag {selector['tag']} not found")
            return found
        pid = selector.get("pid")
        if not isinstance(pid, int) or pid not in known:
            raise RpcError("not_found", f"process with pid {pid} not found")
        return known[pid]


def _listed(running: Running) -> Message:
    found: Message = {"config": running.order.to_json(), "pid": running.pid}
    return found | ({"tag": running.order.tag} if running.order.tag else {})


def _descriptors(order: Order, user: User) -> tuple[dict[str, int], dict[int, int]]:
    """Return our ends by kind, and the program's by number."""
    if order.terminal:
        ours, theirs = open_terminal(order.size, user.uid, user.gid)
        return {"pty": ours, "stdin": os.dup(ours)}, {0: theirs, 1: theirs, 2: theirs}
    out, out_end = os.pipe()
    err, err_end = os.pipe()
    if not order.stdin:
        return {"stdout": out, "stderr": err}, {0: os.open(os.devnull, os.O_RDONLY), 1: out_end, 2: err_end}
    in_end, stdin = os.pipe()
    return {"stdout": out, "stderr": err, "stdin": stdin}, {0: in_end, 1: out_end, 2: err_end}


async def _unless_gone(inlet: Inlet, data: bytes, request: Request) -> None:
    """Write, but not for a caller that has left."""
    writing = asyncio.ensure_future(inlet.write(data))
    gone = asyncio.ensure_future(request.disconnected.wait())
    try:
        await asyncio.wait({writing, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():
            return
        writing.result()
    except OSError:
        raise RpcError("internal", "nobody reads the process's input any more") from None
    finally:
        gone.cancel()
        writing.cancel()


def routes(config: Config) -> Routes:
    """Return the service's routes."""
    service = ProcessService(config)
    return connect.routes(
        "process.Process",
        unary={
            "List": service.list,
            "SendInput": service.send_input,
            "SendSignal": service.send_signal,
            "Update": service.update,
            "CloseStdin": service.close_stdin,
        },
        server={"Start": service.start, "Connect": service.connect},
        client={"StreamInput": service.stream_input},
        own_deadline=("Start",),
    )
