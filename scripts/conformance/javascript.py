"""The JavaScript suites: E2B's tests on Node.js, run by vitest in a copy with dependencies of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab import ROOT, say
from results import Results

sys.path.insert(0, str(ROOT / "scripts" / "bootstrap"))

import console
import page

_COPIES = ROOT / ".venv" / "conformance-js"
_NEEDED = ("vitest", "msw", "dotenv", "@types/node", "error-stack-parser-es")
_INSTALL = ("install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
_SECONDS = 1800

# The suites' own configuration also starts browsers, and builds templates from images of the internet.
_CONFIG = """import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['tests/**/*.test.ts'],
    exclude: ['tests/runtimes/**', 'tests/template/**', 'tests/bundle/**', '**/*.browser.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 4,
    setupFiles: %s,
  },
})
"""


def install(suite: str, repository: Path) -> None:
    """Copy a suite and install what it needs, while there is a network."""
    source = repository / ("packages/js-sdk" if suite == "js" else "js")
    copy = _COPIES / suite
    for part in ("src", "tests"):
        shutil.rmtree(copy / part, ignore_errors=True)
        shutil.copytree(source / part, copy / part)
    shutil.copy(source / "tsconfig.json", copy)
    described: dict[str, Any] = json.loads((source / "package.json").read_text())
    described.pop("scripts", None)
    wanted = described.get("devDependencies", {})
    described["devDependencies"] = {name: wanted[name] for name in _NEEDED if name in wanted}
    (copy / "package.json").write_text(json.dumps(described, indent=2))
    setup = ["tests/globalFetchFallback.setup.ts"]
    present = [name for name in setup if (copy / name).exists()]
    (copy / "vitest.config.mts").write_text(_CONFIG % json.dumps(present))
    say(f"installing what the suite {suite} needs, with npm")
    npm, env = page.npm_command()
    if not console.run([npm, *_INSTALL], env=env, cwd=copy):
        shutil.rmtree(copy, ignore_errors=True)
        say(f"npm could not install it: the suite {suite} is skipped")


def sdk(environment: dict[str, str], further: list[str]) -> Results:
    """Run the SDK's tests."""
    return _run("js", environment, further)


def code_interpreter(environment: dict[str, str], further: list[str]) -> Results:
    """Run the code interpreter's tests."""
    return _run("code_interpreter_js", environment, further)


def _run(suite: str, environment: dict[str, str], further: list[str]) -> Results:
    copy = _COPIES / suite
    if not (copy / "node_modules").is_dir():
        return {}
    written = copy / "results.json"
    written.unlink(missing_ok=True)
    _, env = page.npm_command()
    vitest = str(copy / "node_modules" / "vitest" / "vitest.mjs")
    command = [
        "node",
        vitest,
        "run",
        "--reporter=default",
        "--reporter=json",
        f"--outputFile.json={written}",
        *further,
    ]
    # Node takes its authorities from one variable only; the other would be read by OpenSSL as its whole list.
    variables = {**os.environ, **env, **environment, "CI": "1"}
    subprocess.run(command, cwd=copy, env=variables, timeout=_SECONDS, check=False)
    return _read(json.loads(written.read_text()), copy) if written.exists() else {}


def _read(report: dict[str, Any], copy: Path) -> Results:
    results: dict[str, Any] = {}
    for file in report["testResults"]:
        name = os.path.relpath(file["name"], copy)
        if not file["assertionResults"] and file["status"] == "failed":
            results[name] = "failed"
        for test in file["assertionResults"]:
            outcome = test["status"] if test["status"] in {"passed", "failed"} else "skipped"
            results[f"{name} > {test['fullName']}"] = outcome
    return results
