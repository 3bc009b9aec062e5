"""The persistent Python: runs cells one after another in one namespace and reports what they gave.

A process of its own, which calls `main`: a new Python or a forked child. Cells and results
travel over a socket, a line of JSON each; what a cell prints goes to the file descriptors 1 and 2 like that of any
program, so the output of its child processes is there too.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import json
import linecache
import os
import re
import select
import signal
import socket
import sys
import threading
import types
from typing import TYPE_CHECKING, Any

from . import display as showing
from .notebook import Notebook
from .traces import error_of

if TYPE_CHECKING:
    import asyncio

_WARM_AFTER = 0.05
_CO_COROUTINE = 0x80
_WARM = ("numpy", "pandas", "matplotlib", "matplotlib.figure", "matplotlib.pyplot", "e2b_charts")
_MAYBE_MAGIC = re.compile(r"^\s*(?:[^#\n]*=\s*)?[!%]", re.MULTILINE)
_GUEST = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Kernel:
    """One interpreter with its namespace.

    Args:
        channel: Carries cells in and results out.
        warm: Import what most cells want while waiting for the second one; a session that runs no cell pays nothing.
    """

    def __init__(self, channel: socket.socket, warm: bool) -> None:
        self._channel = channel
        self._lines = channel.makefile("rb")
        self._sending = threading.Lock()
        self._warm = list(_WARM) if warm else []
        self._main = types.ModuleType("__main__")
        self._main.__dict__["__builtins__"] = __builtins__
        self._loop: asyncio.AbstractEventLoop | None = None
        self._count = 0
        self._pid = os.getpid()
        self._in_cell = False

    def serve(self) -> None:
        """Run cells until the channel is closed."""
        sys.modules["__main__"] = self._main
        sys.argv = [""]
        signal.signal(signal.SIGINT, self._interrupted)
        Notebook(self._show).install()
        self._send({"type": "ready"})
        while True:
            if self._count:
                self._warm_up()
            line = self._lines.readline()
            if not line:
                return
            self._serve_cell(json.loads(line))

    def _interrupted(self, number: int, frame: types.FrameType | None) -> None:
        # Between two cells there is nothing to interrupt: a late SIGINT must not end the kernel.
        if self._in_cell and os.getpid() == self._pid:
            raise KeyboardInterrupt

    def _warm_up(self) -> None:
        """Import one module after another, as long as no cell is waiting."""
        while self._warm and not select.select([self._channel], [], [], _WARM_AFTER)[0]:
            with contextlib.suppress(Exception):
                importlib.import_module(self._warm.pop(0))

    def _serve_cell(self, cell: dict[str, Any]) -> None:
        self._count += 1
        error: dict[str, str] | None = None
        self._send({"type": "begin"})
        os.environ.update(cell.get("keep_env", {}))
        with _environment(cell.get("env", {})):
            try:
                if cell.get("cwd"):
                    os.chdir(cell["cwd"])
                self._run_and_show(cell["code"])
            except BaseException as raised:  # whatever ends a cell is the cell's result, SystemExit included
                self._in_cell = False
                error = error_of(raised)
        if os.getpid() != self._pid:
            os._exit(0)  # a child that the cell forked has come to the end of the cell
        self._finish(error)

    def _run_and_show(self, source: str) -> None:
        self._in_cell = True
        try:
            value = self._run(self._as_python(source), f"<cell {self._count}>")
            if value is None:
                return
            self._main.__dict__["_"] = value
            self._show(showing.bundle_of(value), main=True)
            if showing.is_managed(value):
                showing.close_figure(value)  # it has been shown; else it came once more with the open ones
        finally:
            self._in_cell = False

    def _finish(self, error: dict[str, str] | None) -> None:
        for bundle in showing.figures():
            self._show(bundle)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        self._send({"type": "end", "error": error})

    def _as_python(self, source: str) -> str:
        """Return a cell as plain Python: at the margin, and without the words that only notebooks know."""
        source = _at_margin(source)
        if not _MAYBE_MAGIC.search(source):
            return source
        from .magics import Magic, translated  # most cells need none of it

        if not hasattr(builtins, "__magic__"):
            builtins.__magic__ = Magic(self._main.__dict__, lambda code: self._run(code, "<cell>"))  # type: ignore[attr-defined]
        return translated(source)

    def _run(self, source: str, name: str) -> object:
        """Run a cell and return the value of its last expression."""
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        tree = ast.parse(source, name)
        last: ast.Expression | None = None
        if tree.body and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";"):
            last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
        self._evaluate(tree, name, "exec")
        return self._evaluate(last, name, "eval") if last is not None else None

    def _evaluate(self, tree: ast.Module | ast.Expression, name: str, mode: str) -> object:
        code = compile(tree, name, mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        value = eval(code, self._main.__dict__)  # noqa: S307 - running the user's code is what a kernel is for
        if code.co_flags & _CO_COROUTINE:
            return self._await(value)
        return value

    def _await(self, coroutine: Any) -> object:
        import asyncio  # most cells await nothing, and it costs half of a kernel's start

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        task = self._loop.create_task(coroutine)
        try:
            return self._loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            with contextlib.suppress(BaseException):
                self._loop.run_until_complete(task)
            raise

    def _show(self, bundle: showing.Bundle, main: bool = False) -> None:
        """Send one result; what a forked child displays has nowhere to go."""
        if os.getpid() == self._pid:
            self._send(showing.result_of(bundle, main=main))

    def _send(self, message: dict[str, object]) -> None:
        line = json.dumps(message).encode() + b"\n"
        # An interrupt in the middle of a line would spoil the channel.
        signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with self._sending:
                self._channel.sendall(line)
        except OSError:
            os._exit(1)  # the cell closed the channel; the daemon reports that this interpreter ended
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)


def _at_margin(source: str) -> str:
    """Take off the indentation of the first line from every line, as notebooks do."""
    first = next((line for line in source.split("\n") if line.strip()), "")
    indent = first[: len(first) - len(first.lstrip())]
    return "\n".join(line.removeprefix(indent) for line in source.split("\n")) if indent else source


@contextlib.contextmanager
def _environment(env: dict[str, str]) -> Any:
    """Set variables and, at the end, put back what was there before."""
    before = {name: os.environ.get(name) for name in env}
    os.environ.update(env)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def main(descriptor: int, warm: bool) -> None:
    """Serve a channel until it is closed.

    May be called in a forked child too: one thread, no event loop, descriptors 0 to 2 in place.

    Args:
        descriptor: The channel, a stream socket.
        warm: See `Kernel`.
    """
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    for stream in (sys.stdout, sys.stderr):
        # A line at a time, also where PYTHONUNBUFFERED would have its end follow it in a write of its own.
        stream.reconfigure(errors="backslashreplace", line_buffering=True, write_through=False)  # type: ignore[union-attr]
    # After the installed packages, so that an uploaded `random.py` does not take the place of Python's own.
    sys.path = [entry for entry in sys.path if entry not in (_GUEST, "")]
    sys.path += [_GUEST, ""]
    Kernel(channel, warm).serve()
