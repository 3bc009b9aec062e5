"""What the daemon was told: at its start, and later by the host's `POST /init`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .limits import GuestLimits

DEFAULT_USER = "user"


@dataclass
class Config:
    """The one configuration of the daemon; changes count from the next request on.

    Attributes:
        token: What requests must carry as `X-Access-Token`; None for no check.
        envs: Variables for everything that runs inside.
        default_user: Who runs what names no user.
        workdir: Where commands start that name no directory; None for the user's home.
        limits: What the sandbox may use.
        allow_root: Whether `root` may be asked for, and be become.
        idle_seconds: The daemon ends after so long without a request; 0 for never.
        writable: Directories that the disk watch counts.
        isolated: The daemon is process 1 of a sandbox of its own: what it kills, it may look for everywhere.
        boot: What the provider wants to be told again (ids, times); the daemon makes nothing of it.
    """

    token: str | None = None
    envs: dict[str, str] = field(default_factory=dict)
    default_user: str = DEFAULT_USER
    workdir: str | None = None
    limits: GuestLimits = field(default_factory=GuestLimits)
    allow_root: bool = False
    idle_seconds: float = 0
    writable: tuple[str, ...] = ()
    isolated: bool = False
    boot: dict[str, Any] = field(default_factory=dict)

    def update(self, values: dict[str, Any]) -> None:
        """Take what `values` names; the rest stays.

        Raises:
            ValueError: A value is of the wrong kind; then nothing is changed.
        """
        taken = {name: convert(values[name]) for name, convert in _KINDS.items() if name in values}
        for name, value in taken.items():
            setattr(self, name, value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("a text is wanted, without zero bytes")
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _variables(value: Any) -> dict[str, str]:
    return variables(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is wanted")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise ValueError("a number of seconds is wanted")
    return float(value)


def _paths(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("a list of paths is wanted")
    return tuple(_text(path) for path in value)


def _limits(value: Any) -> GuestLimits:
    if not isinstance(value, dict):
        raise ValueError("the limits must be an object")
    return GuestLimits.from_config(value)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("an object is wanted")
    return value


def variables(value: Any) -> dict[str, str]:
    """Check variables that came over the wire.

    Raises:
        ValueError: They are none.
    """
    for name, text in _object(value).items():
        if not name or "=" in name or "\0" in _text(text) or "\0" in name:
            raise ValueError(f"{name!r} can't be the name of a variable")
    return dict(value)


_KINDS = {
    "token": _optional_text,
    "envs": _variables,
    "default_user": _text,
    "workdir": _optional_text,
    "limits": _limits,
    "allow_root": _flag,
    "idle_seconds": _seconds,
    "writable": _paths,
    "isolated": _flag,
    "boot": _object,
}
