"""Many lives of sandboxes leave nothing: no process, mount, file, socket, control group, descriptor, memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sandbox_world import MIB, children, descriptors, eventually, groups_of, processes_of, resident, sockets_below

from orchestrion.core.errors import OrchestrionError
from orchestrion.sandbox.local import LocalProvider, cradle
from orchestrion.sandbox.local import provider as provider_module
from orchestrion.sandbox.protocols import Sandbox, SandboxSpec

LIVES, AT_ONCE, TURNS = 200, 4, 30
GROWTH = 24 * MIB


class World:
    """One provider, and what it has made.

    Attributes:
        provider: It.
        home: Its data directory.
        ids: Of every sandbox that was ever begun, also those that were only kept ready.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.provider = LocalProvider(home, pool=1)
        self.ids: list[str] = []
        self._descriptors = self._memory = 0

    def new_id(self, made: Callable[[], str]) -> str:
        self.ids.append(made())
        return self.ids[-1]

    async def settle(self) -> None:
        """Let what goes on in the background come to its end; afterwards the pool is full."""
        await self.provider.warm()
        if self.provider._filling is not None:
            await asyncio.wait({self.provider._filling})
        gc.collect()

    async def begin(self) -> None:
        """Take note of what there is after a few lives, when everything has been loaded."""
        for _ in range(3):
            await one_life(self.provider)
        await self.settle()
        self._descriptors, self._memory = descriptors(), resident()

    async def assert_clean(self) -> None:
        """Nothing is there but what is kept ready."""
        await self.settle()
        assert await self.provider.known() == []
        ready = {path.name for path in (self.home / "sandboxes").iterdir()} - {"locks"}
        assert len(ready) <= 1
        over = set(self.ids) - ready
        await eventually(lambda: not processes_of(over), 5, f"left: {processes_of(over)}")
        assert groups_of(over) == []
        assert [path for path in sockets_below(self.home) if any(one in path for one in over)] == []
        assert descriptors() <= self._descriptors + 2
        assert resident() - self._memory < GROWTH
        assert len(children()) <= 1

    async def assert_gone(self) -> None:
        """Nothing is there at all, once the provider was closed."""
        await self.provider.aclose()
        assert [path.name for path in (self.home / "sandboxes").iterdir() if path.name != "locks"] == []
        assert processes_of([*self.ids, str(self.home)]) == {}
        assert groups_of(self.ids) == []
        assert sockets_below(self.home) == []
        assert children() == []


async def one_life(provider: LocalProvider) -> None:
    sandbox = await provider.create(SandboxSpec())
    assert (await sandbox.run_command("echo fine")).stdout == "fine\n"
    await sandbox.close()


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    if os.geteuid() != 0:
        pytest.skip("only root sees the mounts and groups of all processes")
    made = World(tmp_path / "home")
    new_id = cradle.new_id
    for module in (cradle, provider_module):
        monkeypatch.setattr(module, "new_id", lambda: made.new_id(new_id))
    if not (state := await made.provider.probe()).ok:
        pytest.skip(f"{state.detail} {state.remedy}")
    await made.begin()
    yield made
    await made.provider.aclose()


@pytest.mark.timeout(300)
async def test_lives(world: World) -> None:
    async def some() -> None:
        for _ in range(LIVES // AT_ONCE):
            await one_life(world.provider)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    await world.assert_clean()
    assert len(world.ids) >= LIVES
    await world.assert_gone()


async def test_pauses(world: World) -> None:
    sandbox = await world.provider.create(SandboxSpec())
    for turn in range(TURNS):
        await world.provider.pause(sandbox.id, memory=turn % 3 > 0)
        again = await world.provider.resume(sandbox.id)
        assert (await again.run_command("echo fine")).stdout == "fine\n"
    await world.provider.remove(sandbox.id)
    await world.assert_clean()
    await world.assert_gone()


async def test_forks_and_snapshots(world: World) -> None:
    sandbox = await world.provider.create(SandboxSpec())
    await sandbox.files.write("/home/user/own", b"kept")
    for _ in range(TURNS):
        copy = await world.provider.fork(sandbox.id)
        assert await copy.files.read_bytes("/home/user/own") == b"kept"
        await copy.close()
        kept = await world.provider.snapshot(sandbox.id)
        await world.provider.remove_snapshot(kept.id)
    await world.provider.remove(sandbox.id)
    await world.assert_clean()
    assert [path for path in (world.home / "snapshots").rglob("*") if path.is_file()] == []
    await world.assert_gone()


async def cancelled(call: Awaitable[object], after: float) -> None:
    """Begin something and cancel it; if it was quicker, so be it."""
    task = asyncio.ensure_future(call)
    await asyncio.wait({task}, timeout=after)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, OrchestrionError):
        await task


async def _comes_to_nothing(sandbox: Sandbox, count: str) -> bool:
    """Say whether what a command counts is gone within the two seconds that a cancel may take."""
    for _ in range(20):
        if (await sandbox.run_command(count)).stdout == "0\n":
            return True
        await asyncio.sleep(0.1)
    return False


async def test_lives_that_are_cancelled_at_any_moment(world: World) -> None:
    chance = random.Random(7)
    provider = world.provider
    for _ in range(TURNS):
        await cancelled(provider.create(SandboxSpec()), chance.uniform(0, 0.05))
    sandbox = await provider.create(SandboxSpec())
    for _ in range(TURNS):
        await cancelled(provider.fork(sandbox.id), chance.uniform(0, 0.1))
        await cancelled(provider.snapshot(sandbox.id), chance.uniform(0, 0.05))
        await cancelled(sandbox.run_command("(setsid sleep 7777 &); sleep 7777"), chance.uniform(0, 0.05))
    assert await _comes_to_nothing(sandbox, "grep -la '[7]777' /proc/[0-9]*/cmdline 2>/dev/null | wc -l")
    for info in await provider.known():
        await provider.remove(info.id)
    for snapshot in await provider.snapshots():
        await provider.remove_snapshot(snapshot.id)
    await world.assert_clean()
    await world.assert_gone()


async def test_lives_whose_end_is_cancelled(world: World) -> None:
    chance = random.Random(11)
    for _ in range(TURNS):
        sandbox = await world.provider.create(SandboxSpec())
        await cancelled(world.provider.remove(sandbox.id), chance.uniform(0, 0.01))
    for info in await world.provider.known():
        await world.provider.remove(info.id)
    await world.assert_clean()
    await world.assert_gone()
