"""What a caller of process.Process wants to have started, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .config import variables
from .connect import Message, RpcError

_MOST_ARGUMENTS = 4096


@dataclass(frozen=True)
class Order:
    """A `StartRequest`."""

    cmd: str
    args: tuple[str, ...]
    envs: dict[str, str]
    cwd: str | None
    tag: str | None
    size: Any
    terminal: bool
    stdin: bool

    @classmethod
    def read(cls, message: Message) -> Order:
        """Take it from a `StartRequest`. Raises `RpcError`."""
        process = object_in(message, "process")
        terminal, args = message.get("pty") is not None, process.get("args") or []
        if not isinstance(args, list) or len(args) > _MOST_ARGUMENTS:
            raise RpcError("invalid_argument", f"The arguments must be a list of up to {_MOST_ARGUMENTS} texts.")
        try:
            envs = variables(process.get("envs") or {})
        except ValueError as error:
            raise RpcError("invalid_argument", f"The variables can't be taken: {error}.") from None
        return cls(
            cmd=_text(process.get("cmd"), "command"),
            args=tuple(_text(value, "argument") for value in args),
            envs=envs,
            cwd=_text(process["cwd"], "directory") if process.get("cwd") else None,
            tag=_text(message["tag"], "tag") if message.get("tag") else None,
            size=object_in(message, "pty").get("size") if terminal else None,
            terminal=terminal,
            stdin=message.get("stdin") is not False,
        )

    def to_json(self) -> Message:
        """Return it as a `ProcessConfig`."""
        config: Message = {"cmd": self.cmd, "args": list(self.args), "envs": self.envs}
        return config | ({"cwd": self.cwd} if self.cwd else {})


def object_in(message: Message, name: str) -> Message:
    """Return a message's field that holds an object. Raises `RpcError`."""
    value = message.get(name)
    if not isinstance(value, dict):
        raise RpcError("invalid_argument", f"The field '{name}' must be an object.")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or (not value and what == "command") or "\0" in value:
        raise RpcError("invalid_argument", f"The {what} must be a text without zero bytes.")
    return value
