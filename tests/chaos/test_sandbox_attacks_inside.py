"""Code inside a sandbox goes for the daemon's secrets, and for the processes that work for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrion.sandbox.local import LocalProvider
from orchestrion.sandbox.protocols import Sandbox, SandboxSpec

# Prints every text that could be an access token in the memory of other processes, as far as it can be read.
_SEARCH = r"""
import glob, os, re
for place in glob.glob("/proc/[0-9]*"):
    if place == f"/proc/{os.getpid()}":
        continue
    try:
        for kind in ("environ", "cmdline"):
            print(open(f"{place}/{kind}", "rb").read())
        memory = open(f"{place}/mem", "rb", 0)
        for line in open(f"{place}/maps"):
            area, rights = line.split()[:2]
            start, end = (int(number, 16) for number in area.split("-"))
            if rights[:2] == "rw" and end - start < 1 << 28:
                memory.seek(start)
                try:
                    print(*re.findall(rb"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])", memory.read(end - start)))
                except OSError:
                    pass
    except OSError:
        pass
print("searched")
"""


@pytest.fixture(params=[False, True], ids=["user", "root"])
async def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sandbox]:
    provider = LocalProvider(tmp_path / "home", pool=0)
    try:
        state = await provider.probe()
        if not state.ok:
            pytest.skip(f"{state.detail} {state.remedy}")
        if request.param and not (await provider.capabilities()).root:
            pytest.skip("there is no root in sandboxes here")
        yield await provider.create(SandboxSpec(root=request.param))
    finally:
        for info in await provider.known():
            await provider.remove(info.id)
        await provider.aclose()


def _users(sandbox: Sandbox, request: pytest.FixtureRequest) -> tuple[str, ...]:
    return ("user", "root") if "root" in request.node.name.rpartition("[")[2] else ("user",)


async def test_nobody_inside_sees_the_access_token(sandbox: Sandbox, request: pytest.FixtureRequest) -> None:
    await sandbox.files.write("/tmp/search.py", _SEARCH.encode())
    token = sandbox.access_token
    assert token
    for user in _users(sandbox, request):
        # The first commands are started by the daemon itself, later ones by its nursery.
        for _ in range(2):
            done = await sandbox.run_command("python3 /tmp/search.py; sleep 1", user=user, timeout=60)
            assert "searched" in done.stdout
            assert token not in done.stdout, user
    cell = await sandbox.run_code(_SEARCH)
    assert token not in str(cell)


async def test_whoever_kills_all_harms_only_themselves(sandbox: Sandbox, request: pytest.FixtureRequest) -> None:
    for user in _users(sandbox, request):
        await sandbox.run_command("kill -9 -1", user=user, timeout=5)
        assert (await sandbox.run_command("echo lives", user=user, timeout=30)).stdout == "lives\n"
    assert (await sandbox.run_code("print(40 + 2)", timeout=60)).stdout == "42\n"
