"""The limits again, for an ordinary user, who has no control groups."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from sandbox_world import as_ordinary_user


@pytest.mark.timeout(170)
def test_the_limits_as_an_ordinary_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("this is an ordinary user's run already")
    # Not pytest's own directory, which only its user may enter.
    with tempfile.TemporaryDirectory(prefix="orchestrion-limits-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        python, theirs, environment = as_ordinary_user(folder)
        environment["ORCHESTRION_SANDBOX_PYTHON"] = theirs
        # What control groups decide elsewhere; the rest is the daemon's own doing, whoever made the sandbox.
        chosen = "bomb or memory or hidden or ((disk or million) and not tmp and not workspace)"
        limits = Path(__file__).with_name("test_sandbox_limits.py")
        command = [*python, "-m", "pytest", "--noconftest", "--tb=short", "--basetemp", str(folder / "t")]
        command += ["-rs", "-k", f"({chosen}) and not root", str(limits)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=165, check=False, env=environment)
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "...." in done.stdout
    assert "SKIPPED" not in done.stdout
