"""The e2b provider passes what every provider must, against our own endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from endpoint_support import Endpoint
from orchestrion.core.errors import SandboxUnavailable
from orchestrion.sandbox import SandboxSpec
from orchestrion.sandbox.e2b import E2BProvider
from orchestrion.sandbox.protocols import SandboxProvider

pytest.register_assert_rewrite("orchestrion.testing.sandbox_conformance", "orchestrion.testing.sandbox_contract")
from orchestrion.testing.sandbox_conformance import SandboxProviderContract  # noqa: E402


@pytest.fixture
async def served(endpoint: Endpoint) -> AsyncIterator[E2BProvider]:
    provider = endpoint.provider()
    yield provider
    await provider.aclose()


class TestE2B(SandboxProviderContract):
    @pytest.fixture
    async def provider(self, served: E2BProvider) -> SandboxProvider:
        return served


async def test_a_wrong_key_is_told(endpoint: Endpoint) -> None:
    provider = E2BProvider("e2b_" + "0" * 40, endpoint.variables["E2B_DOMAIN"], ssl_context=endpoint.tls())
    state = await provider.probe()
    assert not state.ok
    assert "E2B_API_KEY" in state.remedy
    with pytest.raises(SandboxUnavailable):
        await provider.create(SandboxSpec())
    await provider.aclose()


async def test_a_certificate_that_is_not_trusted_is_told(endpoint: Endpoint) -> None:
    trusting_others = httpx.create_ssl_context()
    provider = E2BProvider(
        endpoint.variables["E2B_API_KEY"], endpoint.variables["E2B_DOMAIN"], ssl_context=trusting_others
    )
    assert not (await provider.probe()).ok
    await provider.aclose()


async def test_use_puts_off_the_end(served: E2BProvider) -> None:
    sandbox = await served.create(SandboxSpec(idle_seconds=5))
    try:
        assert (await sandbox.run_command("sleep 8; echo lived")).stdout == "lived\n"
        async with asyncio.timeout(30):
            while sandbox.id in {info.id for info in await served.known()}:
                await asyncio.sleep(0.5)
        assert not await sandbox.ping()
    finally:
        await sandbox.close()


async def test_a_longer_time_reaches_the_clock_over_there(served: E2BProvider) -> None:
    sandbox = await served.create(SandboxSpec(idle_seconds=4))
    try:
        await served.set_time(sandbox.id, 60)
        await asyncio.sleep(6)
        assert (await sandbox.run_command("echo lived")).stdout == "lived\n"
        await asyncio.sleep(6)
        assert await sandbox.ping(), "what keeps it in use must not give it less time than it had"
    finally:
        await sandbox.close()


async def test_the_endpoint_says_what_stands_behind_it(endpoint: Endpoint, served: E2BProvider) -> None:
    can = await served.capabilities()
    assert can.pause_memory == "frozen"
    assert not can.fork_processes
    assert not can.gateway
    assert "copied" in can.caveats
    elsewhere = endpoint.provider()
    info = (await served.create(SandboxSpec(idle_seconds=77, session_id="ses_time"))).id
    try:
        assert (await elsewhere.info(info)).spec.idle_seconds == 77
    finally:
        await elsewhere.remove(info)
        await elsewhere.aclose()


async def test_a_sandbox_that_is_found_again_is_kept_in_step(endpoint: Endpoint, tmp_path: Path) -> None:
    workspace = tmp_path / "workspaces" / "ses_again"
    workspace.mkdir(parents=True)
    first = endpoint.provider()
    made = await first.create(SandboxSpec(session_id="ses_again", workspace=workspace))
    await first.aclose()
    second = E2BProvider(
        endpoint.variables["E2B_API_KEY"],
        endpoint.variables["E2B_DOMAIN"],
        ssl_context=endpoint.tls(),
        workspace_of=lambda session: tmp_path / "workspaces" / session,
    )
    try:
        (workspace / "new.txt").write_text("from the host")
        found = await second.open(made.id)
        assert (await found.run_command("cat new.txt; echo inside > out.txt")).stdout == "from the host"
        assert (workspace / "out.txt").read_text() == "inside\n"
    finally:
        await second.remove(made.id)
        await second.aclose()
