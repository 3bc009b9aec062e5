"""Looks through a workspace whose shape code in a sandbox has made: deep, wide, changing, full of links."""

from __future__ import annotations

import os
import stat as stat_module
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_FILES = 10_000
MAX_DEPTH = 64
_MAX_NAMES = 100_000
_UNFIT = {"Cc", "Cs", "Zl", "Zp"}


@dataclass(frozen=True)
class Found:
    """A regular file.

    Attributes:
        path: Relative to the workspace.
        size: In bytes.
        changed_ns: Time of its last change, in nanoseconds since the epoch.
    """

    path: str
    size: int
    changed_ns: int


def is_presentable(name: str) -> bool:
    """Say whether a name can be shown and sent: it is Unicode, on one line and steers no terminal."""
    return not any(unicodedata.category(letter) in _UNFIT for letter in name)


def scan(root: Path, under: tuple[str, ...] = ()) -> list[Found]:
    """Return the regular files below a folder, sorted by path; at most `MAX_FILES`, at most `MAX_DEPTH` deep.

    Links, hidden names and names that no client could be told are left out.

    Args:
        root: The workspace.
        under: The parts of the folder's path; no link among them is followed.
    """
    search = _Search()
    with suppress(OSError), _descended(root, under) as folder:
        search.look(folder, under)
    return sorted(search.found, key=lambda file: file.path)


@contextmanager
def _descended(root: Path, parts: tuple[str, ...]) -> Iterator[int]:
    folder = os.open(root, DIRECTORY)
    try:
        for part in parts:
            inner = os.open(part, DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


@dataclass
class _Search:
    found: list[Found] = field(default_factory=list)
    names_left: int = _MAX_NAMES

    def look(self, folder: int, base: tuple[str, ...]) -> None:
        """Take the files of an open directory, then those of its folders."""
        with os.scandir(folder) as entries:
            seen = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in islice(entries, self.names_left)]
        self.names_left -= len(seen)
        seen = sorted(
            (name, is_folder) for name, is_folder in seen if not name.startswith(".") and is_presentable(name)
        )
        for name, is_folder in seen:
            if not is_folder and len(self.found) < MAX_FILES:
                self._take(folder, name, base)
        for name, is_folder in seen:
            if is_folder and name != "__pycache__" and self._goes_on(base):
                with suppress(OSError), _descended_from(folder, name) as inner:
                    self.look(inner, (*base, name))

    def _goes_on(self, base: tuple[str, ...]) -> bool:
        return len(base) < MAX_DEPTH and self.names_left > 0 and len(self.found) < MAX_FILES

    def _take(self, folder: int, name: str, base: tuple[str, ...]) -> None:
        with suppress(OSError):  # it may be gone again
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat_module.S_ISREG(info.st_mode):
                self.found.append(Found("/".join((*base, name)), info.st_size, info.st_mtime_ns))


@contextmanager
def _descended_from(folder: int, name: str) -> Iterator[int]:
    inner = os.open(name, DIRECTORY, dir_fd=folder)
    try:
        yield inner
    finally:
        os.close(inner)
