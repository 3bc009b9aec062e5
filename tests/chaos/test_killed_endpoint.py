"""`orchestrion sandbox serve` is killed while clients are in the middle of something."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from endpoint_support import Endpoint, needs_sdk, serving
from orchestrion.core.errors import NotFound, OrchestrionError
from orchestrion.sandbox import Sandbox, SandboxSpec
from orchestrion.sandbox.protocols import CommandResult, Output


async def test_a_killed_endpoint_finds_its_sandboxes_again(tmp_path: Path) -> None:
    with serving(tmp_path) as endpoint:
        provider = endpoint.provider()
        short = await provider.create(SandboxSpec(idle_seconds=5))
        lasting = await provider.create(SandboxSpec(idle_seconds=300))
        await lasting.run_code("kept = 6 * 7")
        streaming = await _stream(lasting)
        endpoint.kill()
        with pytest.raises(OrchestrionError):
            await asyncio.wait_for(streaming, 30)
        await provider.aclose()

        await asyncio.sleep(6)  # one's time runs out while nobody keeps it
        endpoint.start()
        provider = endpoint.provider()
        again = await provider.open(lasting.id)
        assert (await again.run_code("kept")).results[0].data == "42"
        assert short.id not in [info.id for info in await provider.known()]
        with pytest.raises(NotFound):
            await provider.open(short.id)
        assert not _alive(endpoint, short.id)

        await provider.set_time(lasting.id, 0)
        assert (await provider.info(lasting.id)).state == "running", "a clock is not set below the idle time"
        await provider.remove(lasting.id)
        assert not _alive(endpoint, lasting.id)
        await provider.aclose()


async def _stream(sandbox: Sandbox) -> asyncio.Task[CommandResult]:
    """Start what writes without end; return it once the first words have come."""
    begun = asyncio.Event()

    async def hear(_output: Output) -> None:
        begun.set()

    task = asyncio.create_task(sandbox.run_command("while sleep 0.05; do echo on; done", on_output=hear))
    await asyncio.wait_for(begun.wait(), 30)
    return task


def _alive(endpoint: Endpoint, sandbox_id: str) -> bool:
    return (endpoint.data / "sandboxes" / sandbox_id).exists()


@needs_sdk
def test_deadlines_that_pass_while_it_is_dead_are_kept_when_it_is_back(tmp_path: Path) -> None:
    with serving(tmp_path) as endpoint:
        made = endpoint.sdk(
            """
            from e2b import Sandbox
            dying, resting = Sandbox.create(timeout=4), Sandbox.create(timeout=4, lifecycle={"on_timeout": "pause"})
            resting.files.write("kept.txt", "yes")
            later = Sandbox.create(timeout=8)
            print(dying.sandbox_id, resting.sandbox_id, later.sandbox_id)
            """
        )
        dying, resting, later = made.split()
        endpoint.kill()
        endpoint.start()
        printed = endpoint.sdk(
            f"""
            import time
            from e2b import NotFoundException, Sandbox
            def state(name):
                try:
                    return Sandbox.get_info(name).state.value
                except NotFoundException:
                    return "gone"
            ends = time.monotonic() + 30
            while time.monotonic() < ends and state({later!r}) != "gone":
                time.sleep(0.5)
            print(state({dying!r}), state({resting!r}), state({later!r}))
            print(Sandbox.connect({resting!r}).files.read("kept.txt"))
            Sandbox.kill({resting!r})
            """
        )
        assert printed.splitlines() == ["gone paused gone", "yes"]
        assert not _alive(endpoint, dying)
        assert not _alive(endpoint, later)
