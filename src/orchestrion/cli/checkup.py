"""`orchestrion doctor`: what works here, what is degraded, how to mend it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from orchestrion.cli.options import print_json
from orchestrion.cli.screen import Screen
from orchestrion.core.errors import OrchestrionError
from orchestrion.core.settings import Settings, load_settings

Status = Literal["ok", "degraded", "missing"]
_PACKAGES = ("numpy", "pandas", "matplotlib", "openpyxl", "scipy", "pyarrow", "pypdf", "docx", "lxml", "trafilatura")
_LOOK = "import importlib.util as u, sys; print(*[name for name in sys.argv[1:] if not u.find_spec(name)])"
_DEADLINE = 60.0
_COLOURS = {"ok": "green", "degraded": "yellow", "missing": "red"}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        name: Of what was looked at.
        status: `missing` is essential and makes `orchestrion doctor` exit 1.
        detail: What was found.
        remedy: How to mend it.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


def checkup(*, as_json: bool) -> int:
    """Look at everything and print it; return 1 if something essential is missing."""
    findings = examine()
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    return 1 if any(finding.status == "missing" for finding in findings) else 0


def examine() -> list[Finding]:
    """Look at this machine, then at what the runtime says of itself."""
    findings = [python()]
    try:
        settings = load_settings()
    except OrchestrionError as error:
        return [*findings, Finding("settings", "missing", error.detail, error.remedy)]
    findings += [Finding("settings", "ok", "All settings are well-formed."), home(settings.home)]
    if findings[-1].status == "missing":
        return findings
    findings.append(sandbox_python(settings))
    known = {finding.name for finding in findings}
    findings += [finding for finding in _runtime(settings) if finding.name not in known]
    if not any(finding.name == "page" for finding in findings):
        findings.append(page())
    return findings


def python() -> Finding:
    """The interpreter that this runs on."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("python", "ok", f"Python {version} at {sys.executable}.")


def home(path: Path) -> Finding:
    """The data directory: made if missing, really written to, with room on its disk."""
    remedy = "Make it writable, or set ORCHESTRION_HOME to a directory that is."
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"x")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return Finding("home", "missing", f"The data directory {path} can't be written: {reason}.", remedy)
    return Finding("home", "ok", f"The data directory {path} is writable.")


def sandbox_python(settings: Settings) -> Finding:
    """The interpreter for code in sandboxes, and the packages that agents count on."""
    path = settings.sandbox_python or Path(sys.prefix) / "sandbox" / "bin" / "python"
    remedy = "`make run` sets it up; ORCHESTRION_SANDBOX_PYTHON names another."
    try:
        done = subprocess.run(  # noqa: S603 - the user's own interpreter, arguments fixed
            [path, "-I", "-c", _LOOK, *_PACKAGES], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return Finding(
            "sandbox python", "missing", f"There is no working interpreter for sandboxes at {path}.", remedy
        )
    if done.stdout.strip():
        lacking = ", ".join(done.stdout.split())
        return Finding("sandbox python", "degraded", f"{path} lacks {lacking}; work that needs them fails.", remedy)
    return Finding("sandbox python", "ok", f"{path} has all packages that agents use.")


def page() -> Finding:
    """The built web page, which ships inside the wheel."""
    if (files("orchestrion.server") / "static" / "index.html").is_file():
        return Finding("page", "ok", "The web page is built.")
    return Finding("page", "degraded", "The web page is not built; the API works without.", "`make serve` builds it.")


def _runtime(settings: Settings) -> list[Finding]:
    try:
        return asyncio.run(asyncio.wait_for(_health(settings), _DEADLINE))
    except OrchestrionError as error:
        return [Finding("runtime", "missing", error.detail, error.remedy)]
    except TimeoutError:
        return [Finding("runtime", "missing", f"The checks did not end within {_DEADLINE:g} s.", "Try again.")]
    except Exception as error:  # whatever it is: the doctor's report must still come
        detail = f"The runtime does not start ({type(error).__name__}: {error})."
        return [Finding("runtime", "missing", detail, "`make run` sets the environment up again.")]


async def _health(settings: Settings) -> list[Finding]:
    from orchestrion.cli.opening import opened

    async with opened(settings, worker=False) as runtime:
        checks = await runtime.health()
    return [Finding(check.name, check.status, check.detail, check.remedy) for check in checks]


def _print(findings: list[Finding]) -> None:
    screen = Screen()
    margin = max(len(word) for word in _COLOURS) + 2
    for finding in findings:
        status = (finding.status.ljust(margin), _COLOURS[finding.status])
        screen.line(status, (finding.name, "bold"), f": {finding.detail}", hang=margin)
        if finding.remedy and finding.status != "ok":
            screen.line(f"→ {finding.remedy}", indent=" " * margin, hang=2)
    screen.gap()
    screen.line(_summary(findings))
    screen.close()


def _summary(findings: list[Finding]) -> str:
    missing = sum(finding.status == "missing" for finding in findings)
    degraded = sum(finding.status == "degraded" for finding in findings)
    if missing:
        return f"{missing} essential thing{'s are' if missing > 1 else ' is'} missing."
    if degraded:
        return f"It works; {degraded} thing{'s are' if degraded > 1 else ' is'} degraded."
    return "Everything works."
