"""Terminals: the pair of descriptors behind an interactive process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
from typing import Any

from .connect import RpcError

_ROWS, _COLUMNS, _MOST = 24, 80, 65535


def open_terminal(size: Any, uid: int, gid: int) -> tuple[int, int]:
    """Make a terminal that belongs to a user; return our end and the program's.

    Args:
        size: `{"cols", "rows"}`, as it comes over the wire.
        uid: Who owns it.
        gid: The owner's group.

    Raises:
        RpcError: The size is none.
        OSError: There are no more terminals.
    """
    ours, theirs = os.openpty()
    try:
        resize(ours, size)
        # In a container's devpts the owner may be fixed already.
        with contextlib.suppress(OSError):
            os.fchown(theirs, uid, gid)
    except RpcError:
        os.close(ours)
        os.close(theirs)
        raise
    return ours, theirs


def resize(terminal: int, size: Any) -> None:
    """Set a terminal's size; its programs are told by SIGWINCH.

    Raises:
        RpcError: The size is none.
    """
    size = size if isinstance(size, dict) else {}
    rows, columns = (_count(size, name, usual) for name, usual in (("rows", _ROWS), ("cols", _COLUMNS)))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _count(size: dict[str, Any], name: str, usual: int) -> int:
    value = size.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST:
        raise RpcError("invalid_argument", f"A terminal's {name} must be between 1 and {_MOST}.")
    return value
