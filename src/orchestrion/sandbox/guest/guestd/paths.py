"""Opening files by path, safely: never through the daemon's own descriptors, never waiting for the other end."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import stat

from .connect import RpcError
from .users import User

_OPENAT2 = 437
_NO_MAGIC_LINKS = 0x02
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)

# What is no regular file must neither block the daemon nor become its terminal.
_CAREFUL = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
READ = os.O_RDONLY | _CAREFUL
WRITE = os.O_WRONLY | _CAREFUL
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def _openat2(path: str, flags: int, mode: int, dir_fd: int) -> int:
    how = _How(flags, mode, _NO_MAGIC_LINKS)
    while True:
        number, at, size = ctypes.c_long(_OPENAT2), ctypes.c_long(dir_fd), ctypes.c_long(ctypes.sizeof(how))
        fd: int = _libc.syscall(number, at, os.fsencode(path), ctypes.byref(how), size)
        if fd >= 0:
            return fd
        if (code := ctypes.get_errno()) != errno.EINTR:
            raise OSError(code, os.strerror(code), path)


@functools.cache
def _has_openat2() -> bool:
    try:
        os.close(_openat2("/", _PLACE, 0, _AT_FDCWD))
    except OSError:
        return False
    return True


def open_path(path: str, flags: int, mode: int = 0, dir_fd: int | None = None) -> int:
    """Open a file as open(2), but not through magic links.

    /proc/self is the daemon's, not the caller's: its `fd`, `root` and `cwd` would lead wherever the daemon can reach,
    whatever the rights on the way (openat2(2), `RESOLVE_NO_MAGICLINKS`). Kernels before 5.6 can't tell them apart.

    Raises:
        OSError: As open(2).
    """
    if _has_openat2():
        return _openat2(path, flags, mode, _AT_FDCWD if dir_fd is None else dir_fd)
    return os.open(path, flags, mode, dir_fd=dir_fd)


def open_parent(path: str) -> tuple[int, str]:
    """Return a descriptor of the directory that `path` is in, and its name there (`.` for the root)."""
    parent, name = os.path.split(path)
    return open_path(parent, _PLACE), name or "."


def give_to(user: User, path: str, *, dir_fd: int) -> None:
    """Make `user` the owner of what was made for it by root."""
    found = os.lstat(path, dir_fd=dir_fd)
    if found.st_uid != user.uid:
        os.chown(path, user.uid, user.gid, dir_fd=dir_fd, follow_symlinks=False)


def open_directories(path: str, user: User) -> tuple[int, bool]:
    """Make a directory and those above it where they are missing, owned by `user`.

    Returns:
        A descriptor of it, for use as `dir_fd` alone; whether it is new.

    Raises:
        RpcError: A file is in the way.
        OSError: As mkdir(2).
    """
    missing: list[str] = []
    fd = -1
    while fd < 0:
        try:
            fd = open_path(path, _PLACE)
        except FileNotFoundError:
            path, name = os.path.split(path)
            missing.append(name)
        except NotADirectoryError:
            raise RpcError("invalid_argument", f"{path} is not a directory") from None
    try:
        for name in reversed(missing):
            fd = _enter_new(fd, name, user)
    except BaseException:
        os.close(fd)
        raise
    return fd, bool(missing)


def _enter_new(above: int, name: str, user: User) -> int:
    """Make a directory unless another did meanwhile; return it opened, the one above closed."""
    try:
        os.mkdir(name, 0o755, dir_fd=above)
        give_to(user, name, dir_fd=above)
    except FileExistsError:
        # Only a directory may be there, or a link to one; a dangling link is in the way.
        if not stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
            raise RpcError("invalid_argument", f"{name} is in the way and is not a directory") from None
    below = open_path(name, _PLACE | os.O_NOFOLLOW, dir_fd=above)
    os.close(above)
    return below
