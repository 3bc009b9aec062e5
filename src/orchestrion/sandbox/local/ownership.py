"""Whose files the sandbox's are, when we are root."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

USER = 1000
_IDS, _FIRST, _RANGES = 65536, 16, 16_000
_MAX_DEPTH = 64
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def id_base(key: str) -> int:
    """Return the first of the 65536 host ids of a session's sandboxes: always the same ones, far from real users.

    Args:
        key: The session's id, or the sandbox's if it belongs to none.
    """
    digest = hashlib.sha256(key.encode()).digest()
    return _IDS * (_FIRST + int.from_bytes(digest[:8], "big") % _RANGES)


def give_tree(root: Path, uid: int) -> None:
    """Make a directory and all in it belong to `uid`, never following a link.

    Works on directory descriptors, so that a name exchanged for a link meanwhile leads nowhere else. What lies deeper
    than `_MAX_DEPTH` was made inside the sandbox and belongs to its user already.
    """
    os.chown(root, uid, uid, follow_symlinks=False)
    with suppress(OSError):
        _give_folder(os.open(root, _DIRECTORY), uid, _MAX_DEPTH)


def _give_folder(folder: int, uid: int, depth: int) -> None:
    """Give away what is in an open directory, and close it."""
    try:
        with os.scandir(folder) as entries:
            seen = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_folder in seen:
            with suppress(FileNotFoundError):
                if os.stat(name, dir_fd=folder, follow_symlinks=False).st_uid != uid:
                    os.chown(name, uid, uid, dir_fd=folder, follow_symlinks=False)
            if is_folder and depth > 0:
                with suppress(OSError):
                    _give_folder(os.open(name, _DIRECTORY, dir_fd=folder), uid, depth - 1)
    finally:
        os.close(folder)
