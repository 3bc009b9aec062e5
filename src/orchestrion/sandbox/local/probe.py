"""Whether a sandbox can be made here: found out by making one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from orchestrion.core.errors import SandboxUnavailable
from orchestrion.sandbox.local.argv import USER_ID, Mode, Plan, bwrap_argv, etc_files
from orchestrion.sandbox.local.interpreter import Interpreter
from orchestrion.sandbox.protocols import Limits

_TIMEOUT = 20
_CHECK = "import importlib.util as u; print(all(map(u.find_spec, ('numpy', 'pandas', 'matplotlib'))))"
_PROBE_UID = 199_999

_SWITCHES = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "15000"),
)


def require_programs() -> None:
    """Check that what starts a sandbox is installed.

    Raises:
        SandboxUnavailable: It isn't.
    """
    if shutil.which("bwrap") is None:
        raise SandboxUnavailable(
            "bubblewrap (the program `bwrap`) is not installed, and nothing runs without isolation.",
            "Install it: `apt-get install bubblewrap` (or `dnf install bubblewrap`).",
        )
    for program in ("setsid", "setpriv"):
        if shutil.which(program) is None:
            raise SandboxUnavailable(f"The program `{program}` is missing.", "Install util-linux.")


async def _run(*argv: str) -> tuple[int, str, str]:
    """Run a program to its end, with a deadline."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    try:
        out, err = await asyncio.wait_for(process.communicate(), _TIMEOUT)
    except (TimeoutError, asyncio.CancelledError):
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise
    return process.returncode or 0, out.decode(errors="replace").strip(), err.decode(errors="replace").strip()


def write_etc(directory: Path, uid: int) -> None:
    """Write the files of /etc that are made for a sandbox."""
    for name, text in etc_files(uid).items():
        path = directory / name
        path.write_text(text)
        path.chmod(0o644)


async def knows_disable_userns() -> bool:
    """Say whether this bubblewrap has `--disable-userns` (0.8.0 and later)."""
    _code, out, _err = await _run("bwrap", "--help")
    return "--disable-userns" in out


async def _try(mode: Mode, interpreter: Interpreter, disable_userns: bool) -> tuple[bool, str]:
    with tempfile.TemporaryDirectory(prefix="orchestrion-probe-") as name:
        workspace, etc = Path(name) / "workspace", Path(name) / "etc"
        workspace.mkdir()
        etc.mkdir()
        uid = _PROBE_UID if mode == "root" else USER_ID
        write_etc(etc, uid)
        plan = Plan(mode, uid, interpreter, workspace, etc, Limits(tmp_mb=16), disable_userns)
        code, out, err = await _run(*bwrap_argv(plan, [interpreter.command, "-c", _CHECK]))
    if code == 0 and out == "False":
        return False, "packages"
    return code == 0, err.splitlines()[-1] if err else f"exit status {code}"


async def find_mode(interpreter: Interpreter, disable_userns: bool) -> Mode:
    """Return the way in which sandboxes can be made here.

    Raises:
        SandboxUnavailable: There is none; says what forbids it and how to change that.
    """
    modes: list[Mode] = ["root", "user"] if os.geteuid() == 0 else ["user"]
    problem = ""
    for mode in modes:
        try:
            works, problem = await _try(mode, interpreter, disable_userns)
        except TimeoutError:
            works, problem = False, f"no answer within {_TIMEOUT} s"
        if works:
            return mode
    raise diagnose(problem)


def diagnose(problem: str, proc_sys: Path = Path("/proc/sys")) -> SandboxUnavailable:
    """Turn bubblewrap's last words into a sentence and a remedy."""
    if problem == "packages":
        return SandboxUnavailable(
            "The sandbox's Python lacks numpy, pandas or matplotlib.",
            "Run `make setup`, or set ORCHESTRION_SANDBOX_PYTHON to a Python that has them.",
        )
    if not _is_about_namespaces(problem):
        return SandboxUnavailable(
            f"bubblewrap can't make a sandbox here: {problem[:300].rstrip('.')}.",
            "docs/sandbox.md lists what it needs.",
        )
    for name, bad, good in _SWITCHES:
        if _value(proc_sys / name) == bad:
            key = name.replace("/", ".")
            return SandboxUnavailable(
                f"This machine forbids user namespaces ({key} is {bad}), which the sandbox is made of.",
                f"As root: `sysctl -w {key}={good}`, and put that line into /etc/sysctl.d/ to keep it.",
            )
    return SandboxUnavailable(
        f"The namespaces that the sandbox is made of are forbidden here ({problem[:200].rstrip('.')}).",
        "In a container, allow them: `docker run --security-opt seccomp=unconfined --security-opt "
        "systempaths=unconfined --cap-add SYS_ADMIN …`.",
    )


def _is_about_namespaces(problem: str) -> bool:
    signs = ("namespace", "uid map", "gid map", "mount proc", "Operation not permitted", "make / slave", "pivot_root")
    return any(sign in problem for sign in signs)


def _value(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
