"""What a run's readers are told of its sandbox, and when the sandbox may rest."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrion.core.events import EventBase
from orchestrion.core.settings import Settings
from orchestrion.runtime.session_sandbox import SessionSandbox
from orchestrion.sandbox import Sandboxes
from orchestrion.store.workspace import Workspace
from orchestrion.testing import ScriptedProvider
from orchestrion.tools.context import RunContext


class Bench:
    """Runs of one session over a provider in memory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.provider = ScriptedProvider()
        self.settings = Settings(home=home, sandbox_mode="hybrid", sandbox_max_per_owner=1)
        self.boxes = Sandboxes(self.settings, providers={"scripted": self.provider})
        self.told: list[str] = []

    def run(self) -> SessionSandbox:
        made = SessionSandbox(lambda: self.boxes, None, self._owner)
        workspace = Workspace(self.home / "workspaces" / "ses_a")
        made.context = RunContext("run_x", "ses_a", workspace, self.settings, self._append, made.acquire)
        return made

    async def _owner(self) -> str:
        return "ann"

    async def _append(self, event: EventBase) -> EventBase:
        reason = event.model_dump().get("reason", "")
        self.told.append(f"{event.model_dump()['type']} {reason}".strip())
        return event

    def news(self) -> list[str]:
        told, self.told = self.told, []
        return told


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_each_change_is_told_once(bench: Bench) -> None:
    first = bench.run()
    made = await first.acquire()
    await first.acquire()
    assert bench.news() == ["sandbox.created"]
    await first.release()

    second = bench.run()
    await second.acquire()
    await second.acquire()
    assert bench.news() == ["sandbox.reused"]

    await bench.boxes.pause(made.id)
    await second.acquire()
    assert bench.news() == ["sandbox.resumed"]

    bench.provider.crash(made.id)
    await second.acquire()
    assert bench.news() == ["sandbox.lost It no longer answers.", "sandbox.restored"]

    bench.provider.machines.clear()
    await second.acquire()
    assert bench.news() == ["sandbox.lost Its provider has it no more.", "sandbox.created"]


async def test_a_new_run_is_told_that_only_files_are_left(bench: Bench) -> None:
    made = await bench.run().acquire()
    bench.news()
    bench.provider.crash(made.id)
    await bench.run().acquire()
    assert bench.news() == ["sandbox.restored"]


async def test_calls_side_by_side_make_one(bench: Bench) -> None:
    run = bench.run()
    made = await asyncio.gather(*(run.acquire() for _ in range(5)))
    assert len({sandbox.id for sandbox in made}) == 1
    assert bench.news() == ["sandbox.created"]


async def test_a_run_keeps_its_sandbox_from_resting_until_it_is_over(bench: Bench) -> None:
    run = bench.run()
    made = await run.acquire()
    assert bench.boxes._registry.in_use(made.id)
    await run.release()
    await run.release()
    assert not bench.boxes._registry.in_use(made.id)


async def test_a_run_without_a_sandbox_has_nothing_to_release(bench: Bench) -> None:
    await bench.run().release()
    assert not (bench.home / "held").exists()
