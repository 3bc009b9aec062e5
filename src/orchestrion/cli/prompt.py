"""Reading what a person types: history, pasted lines, lines that go on."""

from __future__ import annotations

import contextlib
import select
import sys
from collections.abc import Iterator
from pathlib import Path

from orchestrion.cli.screen import is_interactive

_HISTORY = 1000
# Pasted lines arrive together; a person does not type the next line this fast.
_PASTE_SECONDS = 0.03


@contextlib.contextmanager
def line_editing(history: Path) -> Iterator[None]:
    """Give `input()` editing and a history that outlives the process, where the terminal allows it."""
    if not is_interactive():
        yield
        return
    import readline

    with contextlib.suppress(OSError):
        readline.read_history_file(history)
    readline.set_history_length(_HISTORY)
    readline.parse_and_bind("set enable-bracketed-paste on")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            history.touch(mode=0o600)
            readline.write_history_file(history)


def read_goal(prompt: str) -> str:
    """Read one message: a line, or several that were pasted or end with a backslash.

    Raises:
        EOFError: Nothing more will come.
        KeyboardInterrupt: Ctrl-C.
    """
    if not is_interactive():
        return _piped()
    lines = [input(prompt)]
    while lines[-1].endswith("\\") or _was_pasted():
        lines[-1] = lines[-1].removesuffix("\\")
        lines.append(input("… "))
    return "\n".join(lines)


def _piped() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _was_pasted() -> bool:
    """Whether the rest of a pasted text waits; GNU readline delivers it in one piece, libedit line by line."""
    import readline

    if "libedit" not in (readline.__doc__ or ""):
        return False
    return bool(select.select([sys.stdin], [], [], _PASTE_SECONDS)[0])
