"""One owner goes after another's sandboxes and snapshots, on one and the same host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrion.core.errors import Conflict, NotFound
from orchestrion.core.settings import load_settings
from orchestrion.sandbox import SandboxSpec
from orchestrion.sandbox.manager import Sandboxes
from orchestrion.sandbox.protocols import Sandbox


@pytest.fixture
async def sandboxes(tmp_path: Path) -> AsyncIterator[Sandboxes]:
    async with Sandboxes(load_settings(home=tmp_path / "home", sandbox_mode="local")) as made:
        state = await made.probe()
        if not state.ok:
            pytest.skip(state.detail)
        try:
            yield made
        finally:
            await made.close_all()


async def _with_secret(sandboxes: Sandboxes) -> Sandbox:
    alice = await sandboxes.create(SandboxSpec(owner="alice"))
    await alice.run_command("echo of-alice > ~/secret")
    return alice


async def test_an_older_snapshot_whose_name_moved_on_is_nobody_elses(sandboxes: Sandboxes) -> None:
    alice = await _with_secret(sandboxes)
    older = await sandboxes.snapshot(alice.id, "web")
    await sandboxes.snapshot(alice.id, "web")
    mine = await sandboxes.snapshots("alice")
    assert len(mine) == 2, "she still has it, and can remove it"
    with pytest.raises(NotFound) as refused:
        await sandboxes.create(SandboxSpec(owner="bob", template="nosuch"))
    for kept in (*mine, older):
        assert kept.id not in str(refused.value), "bob learns no name of hers"
        with pytest.raises(NotFound):
            await sandboxes.create(SandboxSpec(owner="bob", template=kept.id))
        with pytest.raises(NotFound):
            await sandboxes.remove_snapshot(kept.id, "bob")
    assert await sandboxes.snapshots("bob") == []


@pytest.mark.parametrize("name", ["app", "app:v1", "app:default"])
async def test_a_snapshots_name_can_not_be_taken_from_another(sandboxes: Sandboxes, name: str) -> None:
    alice = await _with_secret(sandboxes)
    await sandboxes.snapshot(alice.id, name)
    bob = await sandboxes.create(SandboxSpec(owner="bob"))
    with pytest.raises(Conflict):
        await sandboxes.snapshot(bob.id, name)
    again = await sandboxes.create(SandboxSpec(owner="alice", template=name))
    assert (await again.run_command("cat ~/secret")).stdout == "of-alice\n"
