"""A terminal on this side joined to one inside a sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from shutil import get_terminal_size

from orchestrion.core.errors import SandboxError
from orchestrion.sandbox.protocols import Process, ProcessEnd, ProcessOutput, Sandbox

_PIECE = 4096


async def attach(sandbox: Sandbox) -> int:
    """Run a shell inside until it ends; return its exit code."""
    size = get_terminal_size()
    env = {"TERM": os.environ.get("TERM", "xterm"), "LANG": "C.UTF-8"}
    shell = await sandbox.processes.start(
        ("/bin/bash", "-il"), env=env, stdin=True, terminal=(size.columns, size.lines)
    )
    try:
        with _raw(), _typing(shell), _resizing(shell):
            return await _show(shell)
    finally:
        await shell.kill()
        await shell.close()


async def _show(shell: Process) -> int:
    async for event in shell.events():
        if isinstance(event, ProcessOutput):
            sys.stdout.buffer.write(event.data)
            sys.stdout.buffer.flush()
        elif isinstance(event, ProcessEnd):
            return event.exit_code
    raise SandboxError("The sandbox did not say how the shell ended.")


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Pass every key on as it is, Ctrl-C too."""
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _typing(shell: Process) -> Iterator[None]:
    loop, keys = asyncio.get_running_loop(), asyncio.Queue[bytes]()
    loop.add_reader(sys.stdin.fileno(), lambda: keys.put_nowait(os.read(sys.stdin.fileno(), _PIECE)))

    async def forward() -> None:
        while typed := await keys.get():
            await shell.send(typed)

    task = asyncio.create_task(forward())
    try:
        yield
    finally:
        loop.remove_reader(sys.stdin.fileno())
        task.cancel()


@contextlib.contextmanager
def _resizing(shell: Process) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def resized() -> None:
        size = get_terminal_size()
        task = asyncio.create_task(shell.resize(size.columns, size.lines))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGWINCH, resized)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
