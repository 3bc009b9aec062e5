"""Who runs what inside: accounts of the sandbox's /etc/passwd, or the one account there is."""

from __future__ import annotations

import base64
import binascii
import functools
import os
import pwd
from dataclasses import dataclass

from .config import DEFAULT_USER, Config
from .connect import RpcError
from .http import Request

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class User:
    """An account inside the sandbox; `groups` are all it is in."""

    name: str
    uid: int
    gid: int
    home: str
    groups: tuple[int, ...]


def _own_account() -> User:
    """The daemon's account under the name that clients expect: where it can't become another, there is no other."""
    return User(DEFAULT_USER, os.getuid(), os.getgid(), os.environ.get("HOME", "/"), tuple(os.getgroups()))


@functools.lru_cache(maxsize=64)
def _from_passwd(name: str, _changed: int) -> User | None:
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        return None
    return User(name, entry.pw_uid, entry.pw_gid, entry.pw_dir, tuple(os.getgrouplist(name, entry.pw_gid)))


def _changed() -> int:
    """Say when the accounts changed last; reading them anew for each request takes its time."""
    try:
        return os.stat("/etc/passwd").st_mtime_ns + os.stat("/etc/group").st_mtime_ns
    except OSError:
        return 0


def lookup(name: str) -> User | None:
    """Return the account of that name; None if there is none that the daemon can become."""
    entry = _from_passwd(name, _changed())
    if os.geteuid() == 0 and entry is not None:
        return entry
    own = _own_account()
    if name == own.name or (entry is not None and entry.uid == own.uid):
        return own
    return None


def find_user(name: str, config: Config) -> User:
    """Return the account that a caller named; the default one for an empty name.

    Raises:
        RpcError: There is none, or it must not be used here.
    """
    user = lookup(name or config.default_user)
    if user is None and name == "root":
        raise RpcError("permission_denied", "There is no root in this sandbox: everything runs as one ordinary user.")
    if user is None:
        raise RpcError("unauthenticated", f"invalid username: '{name or config.default_user}'")
    if user.uid == 0 and not config.allow_root:
        raise RpcError(
            "permission_denied", "This sandbox was made without root; ask for one with it, or run as user."
        )
    return user


def rpc_user(request: Request, config: Config) -> User:
    """Return who is to run a call: the name in its Basic authorization, or the default user.

    Raises:
        RpcError: There is no such account, or it must not be used here.
    """
    scheme, _, coded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return find_user("", config)
    try:
        name = base64.b64decode(coded.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        raise RpcError("unauthenticated", "The authorization header is not base64 of '<user>:'.") from None
    return find_user(name, config)


def environment(user: User, config: Config) -> dict[str, str]:
    """Return the variables that everything of a user's starts with: the sandbox's own, the account's, the caller's.

    The sandbox's own are those that its provider gave the daemon, the way to the gateway among them.
    """
    own = {"HOME": user.home, "USER": user.name, "LOGNAME": user.name}
    return {"PATH": _PATH, **os.environ, **own, **config.envs}


def resolve(path: str, user: User) -> str:
    """Return a path as an absolute one; `~` and relative paths start at the user's home.

    Raises:
        RpcError: It names another user's home, or holds a zero byte.
    """
    if "\0" in path:
        raise RpcError("invalid_argument", "A path can't hold a zero byte.")
    if path.startswith("~"):
        if path[1:2] not in ("", "/"):
            raise RpcError("invalid_argument", "cannot expand user-specific home dir")
        path = user.home + path[1:]
    return os.path.normpath(os.path.join(user.home, path))
