"""`orchestrion run` carries both agents' jobs through the real provider clients, the stand-in playing the model."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrion.testing import PlaybookResponder, StandIn

ORCHESTRION = Path(sys.executable).with_name("orchestrion")
TABLE = "city;units;day\n" + "".join(
    f"{'Bern' if n % 2 else 'Zürich'};{n * 3};2026-01-{n:02d}\n" for n in range(1, 25)
)
NOTES = """The lighthouse of Oldport

The lighthouse of Oldport was finished in 1874 and is built of grey granite. It stands 41 metres tall.

Its lamp was converted to electricity in 1931. The keeper's cottage has been a museum since 1996.
"""

pytestmark = pytest.mark.usefixtures("needs_sandboxes")


@dataclass
class Outcome:
    """What a run left behind."""

    code: int
    events: list[dict[str, Any]]
    report: str
    errors: str

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    async with StandIn(PlaybookResponder()) as server:
        yield server


def environment(server: StandIn, provider: str, home: Path) -> dict[str, str]:
    mine = ("ANTHROPIC_", "OPENAI_", "ORCHESTRION_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    url = server.url if provider == "anthropic" else server.openai_url
    name = provider.upper()
    return {
        **inherited,
        "ORCHESTRION_HOME": str(home),
        f"{name}_BASE_URL": url,
        f"{name}_API_KEY": "sk-wire-secret-1",
    }


async def run(server: StandIn, provider: str, home: Path, goal: str, file: Path) -> Outcome:
    process = await asyncio.create_subprocess_exec(
        str(ORCHESTRION), "run", goal, "-f", str(file), "--json",
        env=environment(server, provider, home),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), 100)
    events = [json.loads(line) for line in output.decode().splitlines()]
    reports = list((home / "workspaces").glob("*/report.md"))
    report = reports[0].read_text() if reports else ""
    return Outcome(process.returncode or 0, events, report, errors.decode())


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
async def test_the_data_job(server: StandIn, provider: str, tmp_path: Path) -> None:
    table = tmp_path / "sales.csv"
    table.write_text(TABLE)
    done = await run(server, provider, tmp_path / "home", "Analyse sales by city", table)
    assert (done.code, done.events[-1]["type"]) == (0, "run.finished"), done.errors
    started = done.of("run.started")[0]
    assert started["model"].startswith(f"{provider}:")
    assert not started["playbook"]
    assert done.report.count("](charts/") >= 2
    assert {"execute_code", "write_report"} <= {event["name"] for event in done.of("tool.finished")}
    total = done.of("usage.recorded")[-1]["total"]
    assert total["input_tokens"] > 0
    assert {request.api for request in server.requests} == {provider}
    assert len(done.of("llm.called")) == len(server.requests)
    assert "sk-wire-secret" not in json.dumps(done.events) + done.errors


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
async def test_the_research_job(server: StandIn, provider: str, tmp_path: Path) -> None:
    notes = tmp_path / "lighthouse.txt"
    notes.write_text(NOTES)
    goal = "Research in the document when the lamp of the Oldport lighthouse was converted to electricity"
    done = await run(server, provider, tmp_path / "home", goal, notes)
    assert (done.code, done.events[-1]["type"]) == (0, "run.finished"), done.errors
    assert done.of("route.decided")[0]["target"] == "research"
    assert "## Sources" in done.report
    assert "converted to electricity in 1931" in done.report
    assert "search_documents" in {event["name"] for event in done.of("tool.finished")}


async def test_hello_is_one_call_and_makes_no_sandbox(server: StandIn, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        str(ORCHESTRION), "run", "hello", "--json",
        env=environment(server, "anthropic", tmp_path / "home"),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    kinds = [json.loads(line)["type"] for line in output.decode().splitlines()]
    assert kinds[-1] == "run.finished"
    assert len(server.requests) == 1
    assert not [kind for kind in kinds if kind.startswith(("sandbox.", "plan.", "run.phase"))]
