"""Code in a sandbox tries to get out, in every way that sandboxes are made here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_world import SANDBOX_PYTHON, as_ordinary_user

HERE = Path(__file__).parent
# Ids that no user of the host has.
FIRST_ID = 16 * 65536


def imprisoned(folder: Path, kind: str) -> dict[str, Any]:
    """Run the prisoner in one way; return what it found."""
    python, theirs, environment = [sys.executable], str(SANDBOX_PYTHON), dict(os.environ)
    if kind == "ordinary user" and os.geteuid() == 0:
        python, theirs, environment = as_ordinary_user(folder)
    for name in ("sandbox_prisoner.py", "sandbox_attacks.py"):
        shutil.copy(HERE / name, folder / name)
    root = "root" if kind == "root, with sudo" else "plain"
    script = folder / "sandbox_attacks.py"
    command = [*python, str(folder / "sandbox_prisoner.py"), str(folder / "home"), theirs, root, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=115, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module", params=["ordinary user", "root", "root, with sudo"])
def found(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    kind = str(request.param)
    if kind != "ordinary user" and os.geteuid() != 0:
        pytest.skip("needs root")
    # Not pytest's own directory, which only its user may enter.
    with tempfile.TemporaryDirectory(prefix="orchestrion-escape-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        result = imprisoned(folder, kind)
        if "skip" in result:
            pytest.skip(result["skip"])
        yield {**result, "kind": kind}


def test_nothing_gets_out(found: dict[str, Any]) -> None:
    attacks = found["attacks"]
    assert set(attacks) == ({"user", "root"} if found["kind"] == "root, with sudo" else {"user"})
    for user, results in attacks.items():
        assert "failed" not in results, results["failed"]
        assert len(results) > 180
        controls = {name for name, result in results.items() if name.startswith("control") and result}
        assert len(controls) == 2
        assert {name: result for name, result in results.items() if result and name not in controls} == {}, user


def test_the_daemon_outlives_the_attacks(found: dict[str, Any]) -> None:
    assert found["lives"] == "1000"


def test_to_the_host_it_is_nobody(found: dict[str, Any]) -> None:
    numbers = [{int(number) for kind in one for number in kind} for one in found["users"]]
    if found["kind"] == "ordinary user":
        assert numbers[0] == numbers[1]
        assert 0 not in numbers[0] or os.geteuid() == 0
        return
    assert min(*numbers[0], *numbers[1], *found["owners"]) >= FIRST_ID
    assert not numbers[0] & numbers[1]


def test_no_namespace_is_shared(found: dict[str, Any]) -> None:
    assert found["shared"] == []
