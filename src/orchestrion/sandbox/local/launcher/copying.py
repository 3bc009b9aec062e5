"""Copies what a sandbox has written, as a program of its own, so that it can be stopped.

Called with: source, destination, the id its owner's ids begin at there, the id that they shall begin at here (both 0
to leave them), and the workspace that is mounted over its own (empty if there is none). Only the layers' contents are
copied, never overlayfs's own working directories.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys

IDS = 65536
OVERLAYS = ("system", "usr")


def main(source: str, destination: str, old: int, new: int, workspace: str) -> None:
    """Copy all layers below `source`."""
    os.makedirs(destination, 0o700, exist_ok=True)
    for name in os.listdir(source):
        if name in OVERLAYS:
            os.makedirs(f"{destination}/{name}/work", 0o700)
            _copy(f"{source}/{name}/upper", f"{destination}/{name}/upper")
        elif name != "workspace" or not workspace:
            _copy(f"{source}/{name}", f"{destination}/{name}")
    if workspace:
        _copy(workspace, f"{destination}/workspace")
    if old != new:
        _shift(destination, new - old, old)


def _copy(source: str, destination: str) -> None:
    # A single file system's files only: what is mounted there is not the sandbox's.
    _run("cp", "-a", "--reflink=auto", "--sparse=always", "--one-file-system", "--", source, destination)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)  # noqa: S603 - fixed programs


def _shift(root: str, by: int, old: int) -> None:
    """Move the owners of all in a directory, which nobody else can reach, to other ids."""
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                _chown(entry.path, entry.stat(follow_symlinks=False), by, old)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)


def _chown(path: str, found: os.stat_result, by: int, old: int) -> None:
    uid = found.st_uid + by if old <= found.st_uid < old + IDS else found.st_uid
    gid = found.st_gid + by if old <= found.st_gid < old + IDS else found.st_gid
    if (uid, gid) == (found.st_uid, found.st_gid):
        return
    os.chown(path, uid, gid, follow_symlinks=False)
    if found.st_mode & 0o6000 and not stat.S_ISLNK(found.st_mode):
        os.chmod(path, stat.S_IMODE(found.st_mode))  # a change of owner clears these bits


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
