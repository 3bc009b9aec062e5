"""The client against the real daemon, which serves this machine as it is, without a sandbox around it."""

from __future__ import annotations

import asyncio
import subprocess

import pytest
from lone_guest_support import alone, daemon, foreign

from orchestrion.core.errors import SandboxGone
from orchestrion.sandbox.client import GuestSandbox

pytest.register_assert_rewrite("orchestrion.testing.sandbox_contract")
from orchestrion.testing.sandbox_contract import SandboxContract  # noqa: E402

__all__ = ["alone", "daemon", "foreign"]


class TestContract(SandboxContract):
    @pytest.fixture
    async def sandbox(self, alone: GuestSandbox) -> GuestSandbox:
        return alone


class TestForeign(SandboxContract):
    """A daemon such as E2B's own kills but the process that it started; the client sees to the rest."""

    @pytest.fixture
    async def sandbox(self, foreign: GuestSandbox) -> GuestSandbox:
        return foreign


async def test_the_daemons_death_is_told(alone: GuestSandbox, daemon: subprocess.Popen[bytes]) -> None:
    task = asyncio.create_task(alone.run_command("sleep 60"))
    await asyncio.sleep(0.5)
    daemon.kill()
    with pytest.raises(SandboxGone):
        async with asyncio.timeout(20):
            await task
    assert not await alone.ping()
