"""The persistent Python: runs cells one after another in one namespace and reports what they gave.

A process of its own. Cells and results travel over a socket, a line of JSON each; what a cell prints goes to the
file descriptors 1 and 2 like that of any program, so the output of its child processes is there too.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import linecache
import os
import select
import signal
import socket
import sys
import types
from typing import TYPE_CHECKING, Any

from .display import error_of, figures, rich_value

if TYPE_CHECKING:
    import asyncio

_WARM_AFTER = 0.05
_CO_COROUTINE = 0x80
_WARM = ("numpy", "pandas", "matplotlib", "matplotlib.figure", "matplotlib.pyplot")


class Kernel:
    """One interpreter with its namespace.

    Args:
        channel: Carries cells in and results out.
        warm: Import what most cells want while waiting for the second one; a session that runs no cell pays nothing.
    """

    def __init__(self, channel: socket.socket, warm: bool) -> None:
        self._channel = channel
        self._lines = channel.makefile("rb")
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
        while True:
            if self._count:
                self._warm_up()
            line = self._lines.readline()
            if not line:
                return
            self._serve_cell(json.loads(line)["code"])

    def _interrupted(self, number: int, frame: types.FrameType | None) -> None:
        # Between two cells there is nothing to interrupt: a late SIGINT must not end the kernel.
        if self._in_cell and os.getpid() == self._pid:
            raise KeyboardInterrupt

    def _warm_up(self) -> None:
        """Import one module after another, as long as no cell is waiting."""
        while self._warm and not select.select([self._channel], [], [], _WARM_AFTER)[0]:
            with contextlib.suppress(Exception):
                importlib.import_module(self._warm.pop(0))

    def _serve_cell(self, source: str) -> None:
        self._count += 1
        error: dict[str, str] | None = None
        self._send({"type": "begin"})
        try:
            self._run_and_show(source)
        except BaseException as raised:  # whatever ends a cell is the cell's result, SystemExit included
            self._in_cell = False
            error = error_of(raised)
        if os.getpid() != self._pid:
            os._exit(0)  # a child that the cell forked has come to the end of the cell
        self._finish(error)

    def _run_and_show(self, source: str) -> None:
        self._in_cell = True
        try:
            value = self._run(source, f"<cell {self._count}>")
            self._remember(value)
            results = rich_value(value)
        finally:
            self._in_cell = False
        self._send_all(results)

    def _finish(self, error: dict[str, str] | None) -> None:
        self._send_all(figures())
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        self._send({"type": "end", "error": error})

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

    def _remember(self, value: object) -> None:
        if value is not None:
            self._main.__dict__["_"] = value

    def _send_all(self, results: list[dict[str, str]]) -> None:
        for result in results:
            self._send({"type": "rich", **result})

    def _send(self, message: dict[str, object]) -> None:
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(1)  # the cell closed the channel; the daemon reports that this interpreter ended


def main() -> None:
    """Serve the channel whose descriptor is the first argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    # After the installed packages, so that an uploaded `random.py` does not take the place of Python's own.
    sys.path = [entry for entry in sys.path if entry != "/opt/orchestrion"]
    sys.path += ["/opt/orchestrion", "/workspace"]
    Kernel(channel, sys.argv[2] == "warm").serve()


if __name__ == "__main__":
    main()
