"""The Python suites: E2B's tests with the SDKs that requirements/conformance.lock names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from lab import ROOT
from results import Results

_PYTHON = ROOT / ".venv" / "conformance" / "bin" / "python"
_SDK_TESTS = (
    *(f"tests/{kind}/{what}_{kind}" for kind in ("sync", "async") for what in ("sandbox", "api", "template")),
    "tests/shared/git",
)


def sdk(repository: Path, scratch: Path, environment: dict[str, str], further: list[str]) -> Results:
    """Run the SDK's live tests."""
    return _run(repository / "packages" / "python-sdk", scratch / "python", environment, _SDK_TESTS, further)


def code_interpreter(repository: Path, scratch: Path, environment: dict[str, str], further: list[str]) -> Results:
    """Run the code interpreter's live tests."""
    return _run(repository / "python", scratch / "code_interpreter", environment, ("tests",), further)


def _run(
    source: Path, scratch: Path, environment: dict[str, str], tests: tuple[str, ...], further: list[str]
) -> Results:
    # Beside the tests lies the SDK's own source, which must not be imported in place of what is installed.
    shutil.copytree(source / "tests", scratch / "tests")
    shutil.copy(source / "pytest.ini", scratch)
    written = scratch / "results.json"
    variables = {
        **os.environ,
        **environment,
        "PYTHONPATH": str(Path(__file__).parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CONFORMANCE_RESULTS": str(written),
    }
    options = ["-p", "recorder", "-p", "no:cacheprovider", "-n", "4", "--timeout", "60", "-q", "--tb=short"]
    chosen = further if any(word.startswith("tests/") for word in further) else [*tests, *further]
    subprocess.run([str(_PYTHON), "-m", "pytest", *options, *chosen], cwd=scratch, env=variables, check=False)
    results: Results = json.loads(written.read_text()) if written.exists() else {}
    return results
