"""The local provider passes what every provider must."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrion.sandbox.local import LocalProvider

pytest.register_assert_rewrite("orchestrion.testing.sandbox_conformance", "orchestrion.testing.sandbox_contract")
from orchestrion.testing.sandbox_conformance import SandboxProviderContract  # noqa: E402


class TestLocal(SandboxProviderContract):
    @pytest.fixture
    async def provider(self, tmp_path: Path) -> AsyncIterator[LocalProvider]:
        provider = LocalProvider(tmp_path / "home")
        state = await provider.probe()
        if not state.ok:
            pytest.skip(f"{state.detail} {state.remedy}")
        yield provider
        await provider.aclose()
