"""`EntryInfo`: how a file or directory is described to a caller."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from . import metadata
from .connect import Message
from .problems import printable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The years that a timestamp can be written in.
_FIRST, _LAST = -62_135_596_800, 253_402_300_799


def timestamp(nanoseconds: int) -> str:
    """Write a moment as RFC 3339; one beyond the years 1 to 9999 as the nearest within."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = _EPOCH + timedelta(seconds=min(max(seconds, _FIRST), _LAST))
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}.{rest:09d}Z"


def kind(mode: int) -> str:
    """Name a file's type."""
    if stat.S_ISREG(mode):
        return "FILE_TYPE_FILE"
    return "FILE_TYPE_DIRECTORY" if stat.S_ISDIR(mode) else "FILE_TYPE_UNSPECIFIED"


def _permissions(mode: int) -> str:
    text = stat.filemode(mode)
    return "L" + text[1:] if stat.S_ISLNK(mode) else text


class Describer:
    """Describes entries, asking for each owner's name once."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int], str] = {}

    def describe(self, path: str, shown: str | None = None, dir_fd: int | None = None) -> Message:
        """Describe what is at `path`.

        Args:
            path: Absolute.
            shown: The path to give, if it was asked for by another name.
            dir_fd: The directory that it is in, if that is open.

        Raises:
            OSError: It can't be looked at.
        """
        shown = shown or path
        name = path if dir_fd is None else os.path.basename(path) or "."
        found = os.lstat(name, dir_fd=dir_fd)
        entry: Message = {
            "name": printable(os.path.basename(shown) or "/"),
            "path": printable(shown),
            "type": kind(found.st_mode),
            "size": str(found.st_size),
            "mode": stat.S_IMODE(found.st_mode) & 0o777,
            "permissions": _permissions(found.st_mode),
            "owner": self._name("user", found.st_uid, lambda uid: pwd.getpwuid(uid).pw_name),
            "group": self._name("group", found.st_gid, lambda gid: grp.getgrgid(gid).gr_name),
            "modifiedTime": timestamp(found.st_mtime_ns),
        }
        if stat.S_ISLNK(found.st_mode):
            entry |= _target(path)
        if noted := metadata.read(path):
            entry["metadata"] = noted
        return entry

    def _name(self, what: str, number: int, find: Callable[[int], str]) -> str:
        key = what, number
        if key not in self._names:
            try:
                self._names[key] = find(number)
            except (KeyError, OverflowError):
                self._names[key] = str(number)
        return self._names[key]


def _target(path: str) -> Message:
    """Say what a symbolic link leads to; of one that leads nowhere, that it has no type."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return {"type": kind(0), "mode": 0, "symlinkTarget": printable(path)}
    return {
        "type": kind(mode),
        "mode": stat.S_IMODE(mode) & 0o777,
        "symlinkTarget": printable(os.path.realpath(path)),
    }
