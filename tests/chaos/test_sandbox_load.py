"""Thirty sandboxes at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sandbox_world import MIB, groups_of, processes_of, proportional, sockets_below

from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandbox, Sandboxes

AT_ONCE = 30
MEMORY = 6 * 1024 * MIB
CELL = """
import pandas as pd
frame = pd.DataFrame({{"kind": ["a", "b"] * 500, "value": range(1000)}})
int(frame.groupby("kind").value.sum()["b"]) + {number}
"""


def free_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


async def work(sandboxes: Sandboxes, workspace: Path, number: int) -> Sandbox:
    """Use a sandbox in each of its ways; its answers are its own."""
    workspace.mkdir(parents=True)
    sandbox = (await sandboxes.acquire(f"ses_{number}", workspace)).sandbox
    told = await sandbox.run_command(f"echo {number} > own; hostname; cat own")
    assert told.stdout == f"sandbox\n{number}\n"
    cell = await sandbox.run_code(CELL.format(number=number))
    assert [rich.data for rich in cell.results] == [str(250_000 + number)], cell
    data = number.to_bytes(2, "big") * MIB
    await sandbox.files.write("/home/user/data", data)
    assert await sandbox.files.read_bytes("/home/user/data") == data
    return sandbox


@pytest.mark.timeout(240)
async def test_thirty_at_once(tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    if free_memory() < MEMORY:
        pytest.skip("this machine has less than 6 GiB of memory to spare")
    home = tmp_path / "home"
    settings = Settings(home=home, sandbox_max=AT_ONCE, sandbox_max_per_owner=AT_ONCE)
    async with Sandboxes(settings) as sandboxes:
        if not (state := await sandboxes.probe("local")).ok:
            pytest.skip(f"{state.detail} {state.remedy}")
        try:
            made = await asyncio.gather(
                *(work(sandboxes, home / "workspaces" / str(number), number) for number in range(AT_ONCE))
            )
            ids = [sandbox.id for sandbox in made]
            assert len(set(ids)) == AT_ONCE
            assert all(await asyncio.gather(*(sandbox.ping(5) for sandbox in made)))
            held = sum(map(proportional, processes_of(ids)))
            record_property("memory_mib", held // MIB)
            print(f"{AT_ONCE} sandboxes hold {held / MIB:.0f} MiB")
            assert 0 < held < MEMORY
        finally:
            await sandboxes.close_all()
    assert processes_of(ids) == {}
    assert groups_of(ids) == []
    assert [path for path in sockets_below(home) if any(one in path for one in ids)] == []
    assert not [path for path in (home / "sandboxes").iterdir() if path.name in ids]
