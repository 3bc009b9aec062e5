"""The gateway's socket of each sandbox that this process looks after."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrion.sandbox.protocols import Network, SandboxSpec

if TYPE_CHECKING:
    from orchestrion.sandbox.gateway import Gateway

_ANSWERS = 1.0


class Doors:
    """Opens gateway sockets, and again when they are gone: their process may have ended, or another took over.

    Args:
        root: The directory of the sandboxes, `sandboxes/` in the data directory.
        operator: What the owner of this machine lets every sandbox reach, also private addresses.
    """

    def __init__(self, root: Path, operator: tuple[str, ...]) -> None:
        self._root = root
        self._operator = operator
        self._made: Gateway | None = None
        self._mine: dict[str, tuple[int, int]] = {}

    @property
    def gateway(self) -> Gateway:
        """The gateway of this process."""
        if self._made is None:
            from orchestrion.sandbox.gateway import Gateway

            self._made = Gateway(operator=self._operator)
        return self._made

    async def open(self, sandbox_id: str, spec: SandboxSpec, *, take_over: bool = False) -> None:
        """See to it that a sandbox has its gateway.

        Args:
            sandbox_id: The sandbox.
            spec: What it was made by.
            take_over: Also if another process serves it: a run's grants are here, not there.
        """
        path = self._path(sandbox_id)
        if not take_over and await _answers(path):
            return
        await self.gateway.open(sandbox_id, path, spec.network)
        self._mine[sandbox_id] = _identity(path)
        if spec.session_id is None:
            from orchestrion.sandbox.gateway import Grant

            self.gateway.grant(sandbox_id, Grant(None))

    def has(self, sandbox_id: str) -> bool:
        """Say whether this process serves a sandbox's gateway."""
        return sandbox_id in self._mine and self._mine[sandbox_id] == _identity(self._path(sandbox_id))

    def _path(self, sandbox_id: str) -> Path:
        return self._root / sandbox_id / "run" / "guest" / "gateway.sock"

    async def set_network(self, sandbox_id: str, network: Network) -> None:
        """Change what a sandbox may reach."""
        if sandbox_id in self._mine:
            await self.gateway.set_network(sandbox_id, network)

    async def close(self, sandbox_id: str) -> None:
        """Close a sandbox's, if it is ours."""
        if self._mine.pop(sandbox_id, None) is not None:
            await self.gateway.close(sandbox_id)

    async def aclose(self) -> None:
        """Close all of ours."""
        if self._made is not None:
            await self._made.aclose()
        self._mine.clear()


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


async def _answers(path: Path) -> bool:
    """Say whether some process serves this socket."""
    try:
        async with asyncio.timeout(_ANSWERS):
            _, writer = await asyncio.open_unix_connection(path)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
