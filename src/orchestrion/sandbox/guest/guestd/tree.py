"""What is done to files and directories by name. All of it blocks and runs with the caller's rights in a thread."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from typing import NamedTuple

from .connect import Message, RpcError
from .entries import Describer
from .paths import DIRECTORY, give_to, open_directories, open_parent, open_path
from .problems import printable
from .users import User

# What one answer may hold, so that a directory with a million files takes neither the daemon's memory nor the host's.
MAX_ENTRIES = 100_000
MAX_BYTES = 48 * 1024 * 1024
# How many directories are open at once while a tree is removed.
_LEVELS = 32


class _Level(NamedTuple):
    """An open directory on the way down, and what is yet to be removed from it."""

    fd: int
    name: str
    names: list[str]


def describe(path: str) -> Message:
    """Describe what is at `path`. Raises `OSError`."""
    parent, _ = open_parent(path)
    try:
        return Describer().describe(path, dir_fd=parent)
    finally:
        os.close(parent)


def make_directory(path: str, user: User) -> Message:
    """Make a directory and those above it.

    Raises:
        RpcError: It is there already, or something else is.
        OSError: As mkdir(2).
    """
    fd, made = open_directories(path, user)
    os.close(fd)
    if not made:
        raise RpcError("already_exists", f"directory already exists: {path}")
    return describe(path)


def list_directory(path: str, depth: int) -> list[Message]:
    """Describe what is in a directory, depth first and by name.

    Args:
        path: Absolute; if it is a link to a directory, entries are shown below the link.
        depth: How many levels.

    Raises:
        RpcError: It is no directory, or holds too much.
        OSError: It can't be read.
    """
    real = os.path.realpath(path)
    describer = Describer()
    found: list[Message] = []
    size = 0
    for entry in _walk(real, depth):
        if len(found) == MAX_ENTRIES or size > MAX_BYTES:
            raise RpcError(
                "resource_exhausted",
                f"{printable(path)} holds more than the {MAX_ENTRIES} entries or {MAX_BYTES >> 20} MiB that one "
                "answer may have; list a part of it.",
            )
        # It may be gone by now.
        with contextlib.suppress(OSError):
            shown = path + entry[len(real) :] if real != "/" else path.rstrip("/") + entry
            found.append(describer.describe(entry, shown))
            # Names and metadata may be anything, and some take six times their length as JSON.
            size += len(json.dumps(found[-1]))
    return found


def _walk(real: str, depth: int) -> Iterator[str]:
    """Yield the paths below a directory; of those that can't be read only the topmost counts as an error."""
    waiting = [(real, 0)]
    while waiting:
        path, level = waiting.pop()
        if level:
            yield path
        if level == depth:
            continue
        try:
            names = _names(path, level)
        except OSError:
            if not level:
                raise
            continue
        waiting += [(os.path.join(path, name), level + 1) for name in reversed(names)]


def _names(path: str, level: int) -> list[str]:
    """Return what is in a directory, by name; nothing for what is none, unless it is the topmost."""
    try:
        fd = open_path(path, DIRECTORY | (os.O_NOFOLLOW if level else 0))
    except NotADirectoryError:
        if level:
            return []
        raise RpcError("invalid_argument", f"path is not a directory: {path}") from None
    try:
        names: list[str] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) > MAX_ENTRIES:
                    break
        return sorted(names, key=os.fsencode)
    finally:
        os.close(fd)


def remove(path: str) -> None:
    """Remove a file, or a directory and all in it; what is missing is removed already.

    Raises:
        RpcError: It is the root.
        OSError: It can't be removed.
    """
    if path == "/":
        raise RpcError("invalid_argument", "The root directory can't be removed.")
    with contextlib.suppress(FileNotFoundError):
        parent, name = open_parent(path)
        try:
            _remove_whole(parent, name)
        finally:
            os.close(parent)


def _remove_whole(parent: int, name: str) -> None:
    """Remove it also if another removes parts of it meanwhile, and so ends a walk early; then `FileNotFoundError`."""
    while True:
        os.lstat(name, dir_fd=parent)
        with contextlib.suppress(FileNotFoundError):
            return _remove_at(parent, name)


def _remove_at(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        fd = open_path(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            _empty(fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=parent)


def _empty(top: int) -> None:
    """Remove all that is in an open directory, however deep it is nested, with few descriptors at a time.

    What lies too deep is moved to the top and removed from there.
    """
    levels = [_Level(top, "", os.listdir(top))]
    try:
        while levels[0].names or len(levels) > 1:
            level = levels[-1]
            if not level.names:
                os.close(levels.pop().fd)
                os.rmdir(level.name, dir_fd=levels[-1].fd)
                continue
            name = level.names.pop()
            try:
                os.unlink(name, dir_fd=level.fd)
            except IsADirectoryError:
                if len(levels) < _LEVELS:
                    below = open_path(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=level.fd)
                    levels.append(_Level(below, name, []))
                    levels[-1].names.extend(os.listdir(below))
                else:
                    moved = f".{secrets.token_hex(8)}.removing"
                    os.rename(name, moved, src_dir_fd=level.fd, dst_dir_fd=top)
                    levels[0].names.append(moved)
    finally:
        for level in levels[1:]:
            os.close(level.fd)


def move(source: str, destination: str, user: User) -> Message:
    """Rename; directories above the destination are made.

    Raises:
        OSError: As rename(2).
    """
    origin, name = open_parent(source)
    try:
        os.lstat(name, dir_fd=origin)
        target, _ = open_directories(os.path.dirname(destination), user)
        try:
            _rename(origin, name, target, os.path.basename(destination), user)
        finally:
            os.close(target)
    finally:
        os.close(origin)
    return describe(destination)


def _rename(origin: int, name: str, target: int, new_name: str, user: User) -> None:
    try:
        os.rename(name, new_name, src_dir_fd=origin, dst_dir_fd=target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _carry_over(origin, name, target, new_name, user)


def _carry_over(origin: int, name: str, target: int, new_name: str, user: User) -> None:
    """Move to another file system: a copy beside the destination first, so that it appears there as a whole."""
    here, there = f"/proc/self/fd/{origin}/{name}", f"/proc/self/fd/{target}"
    copy = f".{secrets.token_hex(8)}.moving"
    try:
        if stat.S_ISDIR(os.lstat(here).st_mode):
            shutil.copytree(here, f"{there}/{copy}", symlinks=True, copy_function=_copy_regular)
        else:
            _copy_regular(here, f"{there}/{copy}")
        give_to(user, copy, dir_fd=target)
        os.rename(copy, new_name, src_dir_fd=target, dst_dir_fd=target)
    except BaseException:
        with contextlib.suppress(OSError, RpcError):
            _remove_at(target, copy)
        raise
    _remove_at(origin, name)


def _copy_regular(source: str, destination: str) -> str:
    """Copy a file or link; a device or pipe has no end that a copy could come to."""
    mode = os.lstat(source).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise OSError(errno.EXDEV, "special files can't be moved to another file system")
    return shutil.copy2(source, destination, follow_symlinks=False)
