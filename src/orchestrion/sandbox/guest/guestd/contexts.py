"""The live interpreters of a sandbox: one per language by default, further ones on request."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .config import Config
from .kernel_host import KernelDied, KernelHost
from .languages import Language, language_of

_HOME = "/home/user"
_LISTED = ("python", "javascript")
_MOST = 64


class ContextError(Exception):
    """A context could not be made or started; the message says why."""


class UnknownContext(Exception):
    """There is no context of that id."""


@dataclass(frozen=True)
class Context:
    """A live interpreter.

    Attributes:
        id: Names it on the wire.
        language: What it speaks.
        cwd: Where it starts; None for the sandbox's default directory.
        host: Runs its cells.
    """

    id: str
    language: str
    cwd: str | None
    host: KernelHost


class Contexts:
    """All contexts of a sandbox. The default ones are there from the start, though started only when wanted.

    Args:
        config: The daemon's.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._all: dict[str, Context] = {}
        self._defaults: dict[str, str] = {}
        for name in _LISTED:
            self.default(name)

    def describe(self) -> list[dict[str, str]]:
        """Return all, as the wire lists them, oldest first."""
        return [self.view(context) for context in self._all.values()]

    def view(self, context: Context) -> dict[str, str]:
        """Return one, as the wire shows it."""
        return {"id": context.id, "language": context.language, "cwd": context.cwd or self._default_cwd()}

    def get(self, context_id: str) -> Context:
        """Return one by its id. Raises `UnknownContext`."""
        if context_id not in self._all:
            raise UnknownContext(context_id)
        return self._all[context_id]

    def default(self, language: str | None) -> Context:
        """Return a language's default context. Raises `ContextError` for a language that there isn't."""
        speaks = _language(language)
        if self._defaults.get(speaks.name) not in self._all:
            self._defaults[speaks.name] = self._add(speaks, None).id
        return self._all[self._defaults[speaks.name]]

    async def create(self, language: str | None, cwd: str | None) -> Context:
        """Make and start a further one. Raises `ContextError`."""
        if len(self._all) >= _MOST:
            raise ContextError(f"There are {_MOST} contexts already; remove one first.")
        context = self._add(_language(language), cwd or None)
        try:
            await _started(context.host.prepare)
        except ContextError:
            await self.remove(context.id)
            raise
        return context

    async def restart(self, context_id: str) -> None:
        """Start one anew, its variables gone. Raises `UnknownContext`, `ContextError`."""
        await _started(self.get(context_id).host.restart)

    async def remove(self, context_id: str) -> None:
        """End one, with everything that it started. Raises `UnknownContext`."""
        await self._all.pop(self.get(context_id).id).host.close()

    async def prepare(self) -> None:
        """Start the default Python, so that the first cell need not wait for it."""
        with contextlib.suppress(ContextError):
            await _started(self.default("python").host.prepare)

    async def close(self) -> None:
        """End them all."""
        for context_id in list(self._all):
            await self.remove(context_id)

    def _add(self, language: Language, cwd: str | None) -> Context:
        host = KernelHost(language, self._config, lambda: cwd or self._default_cwd())
        context = Context(str(uuid.uuid4()), language.name, cwd, host)
        self._all[context.id] = context
        return context

    def _default_cwd(self) -> str:
        if self._config.workdir:
            return self._config.workdir
        return _HOME if os.path.isdir(_HOME) else os.environ.get("HOME", "/")


def _language(name: str | None) -> Language:
    try:
        return language_of(name)
    except ValueError as error:
        raise ContextError(str(error)) from None


async def _started(start: Callable[[], Awaitable[None]]) -> None:
    try:
        await start()
    except OSError as error:
        raise ContextError(f"The interpreter did not start: {error}.") from None
    except KernelDied:
        raise ContextError("The interpreter ended before it was ready.") from None
