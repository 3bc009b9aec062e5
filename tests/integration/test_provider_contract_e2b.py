"""The e2b provider passes what every provider must, against our own endpoint."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orchestrion.core.errors import SandboxUnavailable
from orchestrion.sandbox import SandboxSpec
from orchestrion.sandbox.e2b import E2BProvider
from orchestrion.sandbox.protocols import Capabilities

pytest.register_assert_rewrite("orchestrion.testing.sandbox_conformance", "orchestrion.testing.sandbox_contract")
from orchestrion.testing.sandbox_conformance import SandboxProviderContract  # noqa: E402


class Endpoint:
    """`orchestrion sandbox serve` with a data directory of its own."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.domain = f"sbx.localhost:{self.port}"
        self.folder = home / "e2b"
        self.log = (home.parent / "serve.log").open("wb")
        self.process = subprocess.Popen(
            [str(Path(sys.executable).with_name("orchestrion")), "sandbox", "serve", "--port", str(self.port)],
            env={**os.environ, "ORCHESTRION_HOME": str(home), "SANDBOX_MODE": "local"},
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> None:
        """Return once it takes connections; skip the tests if it can't serve here."""
        for _ in range(600):
            if self.process.poll() is not None:
                pytest.fail(f"the endpoint ended: {Path(self.log.name).read_text()[-2000:]}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0 and (self.folder / "ca-bundle.pem").exists():
                    return
            time.sleep(0.1)
        pytest.fail("the endpoint does not listen")

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "ca-bundle.pem"))

    def provider(self) -> E2BProvider:
        return E2BProvider((self.folder / "key").read_text().strip(), self.domain, ssl_context=self.context())

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    serving = Endpoint(tmp_path_factory.mktemp("e2b") / "home")
    serving.wait()
    yield serving
    serving.stop()


class _AsServed(E2BProvider):
    """What E2B's cloud can do, less what our own endpoint can't behind the same API."""

    async def capabilities(self) -> Capabilities:
        return Capabilities(**{**vars(await super().capabilities()), "fork_processes": False})


class TestE2B(SandboxProviderContract):
    @pytest.fixture
    async def provider(self, endpoint: Endpoint):  # type: ignore[no-untyped-def]
        key = (endpoint.folder / "key").read_text().strip()
        provider = _AsServed(key, endpoint.domain, ssl_context=endpoint.context())
        yield provider
        await provider.aclose()


async def test_a_wrong_key_is_told(endpoint: Endpoint) -> None:
    provider = E2BProvider("e2b_" + "0" * 40, endpoint.domain, ssl_context=endpoint.context())
    state = await provider.probe()
    assert not state.ok
    assert "E2B_API_KEY" in state.remedy
    with pytest.raises(SandboxUnavailable):
        await provider.create(SandboxSpec())
    await provider.aclose()


async def test_a_certificate_that_is_not_trusted_is_told(endpoint: Endpoint) -> None:
    key = (endpoint.folder / "key").read_text().strip()
    provider = E2BProvider(key, endpoint.domain, ssl_context=httpx.create_ssl_context())
    assert not (await provider.probe()).ok
    await provider.aclose()


async def test_use_puts_off_the_end(endpoint: Endpoint) -> None:
    provider = endpoint.provider()
    sandbox = await provider.create(SandboxSpec(idle_seconds=6))
    try:
        assert (await sandbox.run_command("sleep 10; echo lived")).stdout == "lived\n"
        await asyncio.sleep(14)
        assert not await sandbox.ping()
    finally:
        await sandbox.close()
        await provider.aclose()
