"""Whose files the sandbox's are, when we are root."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

_FIRST_UID = 200_000
_UIDS = 60_000


def sandbox_uid(session_id: str) -> int:
    """Return the unprivileged user of a session's sandboxes: always the same one, far from real users."""
    digest = hashlib.sha256(session_id.encode()).digest()
    return _FIRST_UID + int.from_bytes(digest[:8], "big") % _UIDS


def give_tree(root: Path, uid: int) -> None:
    """Make a directory and all in it belong to `uid`, never following a link.

    Works on directory descriptors, so that a name exchanged for a link meanwhile leads nowhere else.
    """
    os.chown(root, uid, uid, follow_symlinks=False)
    for _path, directories, files, fd in os.fwalk(root, follow_symlinks=False):
        for name in (*directories, *files):
            with suppress(FileNotFoundError):
                if os.stat(name, dir_fd=fd, follow_symlinks=False).st_uid != uid:
                    os.chown(name, uid, uid, dir_fd=fd, follow_symlinks=False)
