"""What this machine allows: found out by making a sandbox's shell and letting it go."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrion.core.errors import SandboxUnavailable
from orchestrion.sandbox.local import cgroups, ownership, plan, skeleton
from orchestrion.sandbox.local.cgroups import Hierarchies
from orchestrion.sandbox.local.interpreter import default_python, locate, refuse_exposing
from orchestrion.sandbox.local.nursery import BirthError, Nursery
from orchestrion.sandbox.local.places import Place
from orchestrion.sandbox.local.plan import System, purpose_plan, system_plan
from orchestrion.sandbox.local.records import Layout, Mode, Record, kill, new_id
from orchestrion.sandbox.protocols import SandboxSpec

_DAEMON = "guestd.daemon"
_CHECK = "import importlib.util as u; print(all(map(u.find_spec, ('numpy', 'pandas', 'matplotlib'))))"
_SWITCHES = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "15000"),
)
_NEEDS = "docs/sandbox.md lists what it needs."
_FOR_CGROUPS = "For limits that the kernel keeps, run Orchestrion as root where /sys/fs/cgroup can be written."
_FOR_MAPPED_IDS = (
    "For a system that can be written to, use Linux 5.12 or newer, with /usr and ORCHESTRION_HOME on file systems "
    "such as ext4 or xfs; in a container, ORCHESTRION_HOME on a volume."
)


@dataclass(frozen=True)
class Ground:
    """What was found out about this machine."""

    mode: Mode
    layout: Layout
    system: System
    hierarchies: Hierarchies
    nursery: Nursery
    fell_back: str = ""

    def offer(self) -> str:
        """Return in a sentence or two what sandboxes here are."""
        text = "Process isolation on this machine's own kernel: no network, a file system of its own"
        users = ", ids of its own for each session" if self.mode == "root" else ", a user namespace of its own"
        text += f"{users}, {self.hierarchies.describe()}."
        if self.mode == "root" and self.layout == "plain":
            text += f" The system is read-only and has no sudo, as ids can't be mapped here ({self.fell_back})."
        if self.mode == "user" and os.geteuid() == 0:
            text += f" As root, without rights of one: {self.fell_back}."
        return text

    def remedy(self) -> str:
        """Return how sandboxes here could become better; empty if nothing is missing."""
        remedies = []
        if self.mode == "root" and self.layout == "plain":
            remedies.append(_FOR_MAPPED_IDS)
        if self.mode == "user" and os.geteuid() == 0:
            remedies.append(diagnose(self.fell_back).remedy)
        if not self.hierarchies.limits:
            remedies.append(_FOR_CGROUPS)
        return " ".join(remedies)


def explore(home: Path, user_home: Path, python: Path | None) -> Ground:
    """Find the best way in which sandboxes can be made here. Takes a second.

    Args:
        home: The data directory.
        user_home: The home directory of whoever runs us.
        python: The Python inside; None for the one that `make setup` made.

    Raises:
        SandboxUnavailable: There is none; says what forbids it and how to change that.
    """
    try:
        return _best_way(home, _system(home, user_home, python))
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(f"A sandbox can't be made here: {error}.", _NEEDS) from error


def _best_way(home: Path, system: System) -> Ground:
    ways: list[tuple[Mode, Layout]] = [("user", "plain")]
    if os.geteuid() == 0:
        ways = [("root", "overlay"), ("root", "plain"), *ways]
    problem = first = ""
    for mode, layout in ways:
        nursery = Nursery(system.python, system.payload, [_DAEMON], home / "zygote.log", mode)
        problem = _try(home, system, nursery, mode, layout)
        if not problem:
            return Ground(mode, layout, system, cgroups.find(), nursery, first)
        first = first or problem
        nursery.close()
    raise diagnose(problem)


def _system(home: Path, user_home: Path, python: Path | None) -> System:
    from orchestrion.sandbox.bundle import payload_dir

    interpreter = locate(python)
    refuse_exposing(interpreter, home, user_home)
    path = python or default_python()
    _require_packages(path)
    payload = payload_dir(home / "cache")
    points = [inside for _, inside in plan.mounts(interpreter, payload)]
    return System(interpreter, path, payload, skeleton.build(home / "system", points))


def _require_packages(python: Path) -> None:
    command = [str(python), "-I", "-c", _CHECK]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={})  # noqa: S603
    if answer.stdout.strip() == "False":
        raise diagnose("packages")


def _try(home: Path, system: System, nursery: Nursery, mode: Mode, layout: Layout) -> str:
    """Make a sandbox's shell and let it go; return what went wrong, or nothing."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="probe-", dir=home) as folder:
            _make_one(Place(Path(folder) / new_id()), system, nursery, mode, layout)
    except BirthError as error:
        return error.reason.rstrip(".")
    except OSError as error:
        return f"{error.strerror or error}: {str(error.filename or home)!r}"
    return ""


def _make_one(place: Place, system: System, nursery: Nursery, mode: Mode, layout: Layout) -> None:
    sandbox_id = place.path.name
    base = ownership.id_base(sandbox_id) if mode == "root" else None
    with contextlib.ExitStack() as stack:
        stack.callback(place.remove)
        place.make()
        place.make_layers(layout, base)
        record = Record(sandbox_id, SandboxSpec(), mode, layout, base, "", 0)
        purpose = purpose_plan(record, system, place.new_boot())
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        log = stack.enter_context(open(place.log, "wb"))
        newborn = nursery.fork()
        stack.callback(newborn.close)
        newborn.prepare(system_plan(place, layout, base, system))
        newborn.start(purpose, listener.fileno(), log.fileno())
        kill(record.born(newborn.pid), lambda: None)


def diagnose(problem: str, proc_sys: Path = Path("/proc/sys")) -> SandboxUnavailable:
    """Turn the last words of a sandbox that could not be made into a sentence and a remedy."""
    if problem == "packages":
        return SandboxUnavailable(
            "The sandbox's Python lacks numpy, pandas or matplotlib.",
            "Run `make setup`, or set ORCHESTRION_SANDBOX_PYTHON to a Python that has them.",
        )
    if "Function not implemented" in problem:
        return SandboxUnavailable(
            f"This machine's kernel is too old for sandboxes ({problem[:200]}).", "Linux 5.12 or newer is needed."
        )
    if not _is_about_namespaces(problem):
        return SandboxUnavailable(f"A sandbox can't be made here: {problem[:300].rstrip('.')}.", _NEEDS)
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
    signs = (
        "namespace",
        "id_map",
        "mount",
        "Operation not permitted",
        "Permission denied",
        "pivot_root",
        "No space left",
    )
    return any(sign in problem for sign in signs)


def _value(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
