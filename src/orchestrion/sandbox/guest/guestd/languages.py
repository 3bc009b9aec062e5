"""The languages that code contexts speak: how each one's interpreter is started, and how it is told what to run."""

from __future__ import annotations

import json
import os
import pkgutil
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .config import Config

CHANNEL = 3
_WARM_MIB = 1024
_SAVE = '_guest_undo+="$(declare -p {name} 2>/dev/null || echo unset {name});"'


@dataclass(frozen=True)
class Cell:
    """One piece of code to run.

    Attributes:
        code: Source.
        env: Variables for this cell alone.
        seconds: Its time limit; None for none.
    """

    code: str
    env: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True)
class Order:
    """A cell with what its interpreter has to learn before: variables to keep, the directory to go to."""

    cell: Cell
    keep_env: dict[str, str]
    cwd: str | None = None


@dataclass(frozen=True)
class Language:
    """How to start an interpreter, and how to tell it what to run.

    Attributes:
        name: As the wire names it.
        argv: Its command; it finds its channel at descriptor `CHANNEL`.
        encode: Puts an order into the form that it reads from the channel.
        whole_group: An interrupt goes to its children too, as from a terminal.
    """

    name: str
    argv: Callable[[Config], Sequence[str]]
    encode: Callable[[Order], bytes]
    whole_group: bool = False


def _json(order: Order) -> bytes:
    cell = order.cell
    message = {"code": cell.code, "env": cell.env, "keep_env": order.keep_env, "cwd": order.cwd}
    return json.dumps(message).encode() + b"\n"


def _shell(order: Order) -> bytes:
    """Return two texts that end in a zero byte: what to run before the cell, and the cell."""
    before = [f"export {name}={shlex.quote(value)}" for name, value in order.keep_env.items()]
    if order.cwd:
        before.append(f"cd {shlex.quote(order.cwd)}")
    for name, value in order.cell.env.items():
        before += [_SAVE.format(name=name), f"export {name}={shlex.quote(value)}"]
    return b"".join(text.replace("\0", "").encode() + b"\0" for text in ("\n".join(before), order.cell.code))


def _source(name: str) -> str:
    """Return a file beside this one, which may lie in an archive."""
    data = pkgutil.get_data(__package__, name)
    if data is None:
        raise ImportError(f"{name} is missing beside {__name__}")
    return data.decode()


# Read when the daemon is imported: in a process that was forked and moved to another root the paths hold no more.
_NODE_SOURCE = f"(() => {{{_source('node_kernel.js')}}})()"  # a scope of its own: cells share the global one
_BASH_SOURCE = _source("bash_kernel.sh")


def _python(config: Config) -> Sequence[str]:
    home = os.path.dirname(sys.modules[__package__].__path__[0])
    warm = config.limits.memory_mb >= _WARM_MIB
    code = f"import sys; sys.path.insert(0, {home!r}); from guestd.kernel import main; main({CHANNEL}, {warm})"
    return [sys.executable, "-P", "-c", code]


def _node(language: str) -> Callable[[Config], Sequence[str]]:
    return lambda _config: ["node", "-e", _NODE_SOURCE, str(CHANNEL), language]


def _bash(_config: Config) -> Sequence[str]:
    return ["/bin/bash", "--norc", "--noprofile", "-c", _BASH_SOURCE, "bash"]


LANGUAGES = {
    language.name: language
    for language in (
        Language("python", _python, _json),
        Language("javascript", _node("javascript"), _json),
        Language("typescript", _node("typescript"), _json),
        Language("bash", _bash, _shell, whole_group=True),
    )
}
_ALIASES = {"": "python", "python3": "python", "py": "python", "js": "javascript", "ts": "typescript", "sh": "bash"}


def language_of(name: str | None) -> Language:
    """Return the language that a client names.

    Raises:
        ValueError: There is no such interpreter; the message says which there are.
    """
    wanted = (name or "").strip().lower()
    language = LANGUAGES.get(_ALIASES.get(wanted, wanted))
    if language is None:
        raise ValueError(f"There is no interpreter for {name!r} here; there are {', '.join(LANGUAGES)}.")
    return language
