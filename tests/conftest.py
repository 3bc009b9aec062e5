"""What tests of several kinds share."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from endpoint_support import Endpoint, serving
from orchestrion.core.settings import Settings
from orchestrion.sandbox import Sandbox, Sandboxes


def pytest_configure() -> None:
    """Let no test fail for a busy machine's sake, and let commands under test hear Ctrl-C."""
    hypothesis.settings.register_profile("orchestrion", deadline=None)
    hypothesis.settings.load_profile("orchestrion")
    # A shell makes its background jobs deaf to it, and they pass that on.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def workspace_of(home: Path, session: str) -> Path:
    path = home / "workspaces" / session
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture
async def sandboxes(tmp_path: Path) -> AsyncIterator[Sandboxes]:
    """Sandboxes in a data directory of their own; the test is skipped where none can be made."""
    made = Sandboxes(Settings(home=tmp_path / "home"))
    state = await made.probe("local")
    if not state.ok:
        pytest.skip(f"{state.detail} {state.remedy}")
    yield made
    await made.close_all()
    await made.aclose()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return workspace_of(tmp_path / "home", "ses_test")


@pytest.fixture
async def sandbox(sandboxes: Sandboxes, workspace: Path) -> Sandbox:
    return (await sandboxes.acquire("ses_test", workspace)).sandbox


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """E2B's API, served by us; its sandboxes end with it."""
    with serving(tmp_path_factory.mktemp("endpoint")) as made:
        yield made
        asyncio.run(made.remove_all())
