"""`python -m orchestrion.testing serve`: the stand-in as a process, answering real clients."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrion.core.settings import Settings
from orchestrion.models import Models


@pytest.fixture
async def urls() -> AsyncIterator[dict[str, str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrion.testing", "serve", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    lines = [(await process.stdout.readline()).decode().strip() for _ in range(2)]
    yield dict(line.split("=", 1) for line in lines)
    process.terminate()
    assert await process.wait() == 0


async def test_prints_both_base_urls_and_plays_the_playbook(
    urls: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORCHESTRION_HOME", str(tmp_path))
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", urls["ANTHROPIC_BASE_URL"])
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    answer = await Models(Settings()).for_role("chat").ainvoke("hello")
    assert "playbook" in answer.text

    monkeypatch.delenv("ANTHROPIC_BASE_URL")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("OPENAI_BASE_URL", urls["OPENAI_BASE_URL"])
    again = await Models(Settings()).for_role("chat").ainvoke("hello")
    assert again.text == answer.text
