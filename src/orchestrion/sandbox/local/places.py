"""Where on the host a sandbox's things are, in its directory `sandboxes/<id>`."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path

from orchestrion.sandbox.local.launcher.identity import USER
from orchestrion.sandbox.local.launcher.system import PLAIN

_POINTS = ("root", "lower/system", "lower/usr", "proc", "empty", "run/guest")
_LAYERS = ("rw/system", "rw/usr")
_REMOVAL = 120


class Place:
    """One sandbox's directory, readable by us alone.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rw = path / "rw"
        self.log = path / "log"
        self.claim = path / "claim"
        self.socket = path / "run" / "guest.sock"
        self.hidden_socket = path / "run" / "guest.paused"

    def make(self) -> None:
        """Make it, but for what may be written inside."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700)
        self.claim.touch(mode=0o600)
        for name in _POINTS:
            (self.path / name).mkdir(mode=0o755, parents=True)

    def make_layers(self, layout: str, base: int | None) -> None:
        """Make what may be written inside, unless it is there.

        Args:
            layout: `overlay` or `plain`.
            base: The host's id of the sandbox's root; None if its user is ourselves.
        """
        if layout == "overlay":
            self._make_overlays(base or 0)
        else:
            self._make_plain(base)
        self._own("workspace", base, 0o755)

    def _make_overlays(self, base: int) -> None:
        for name in _LAYERS:
            upper, work = self.path / name / "upper", self.path / name / "work"
            work.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not upper.exists():
                upper.mkdir(mode=0o755)
                os.chown(upper, base, base)

    def _make_plain(self, base: int | None) -> None:
        for _inside, kept in PLAIN:
            self._own(kept, base, 0o1777 if "tmp" in kept else 0o755)

    def _own(self, name: str, base: int | None, mode: int) -> None:
        """Make a directory of the user's, unless it is there."""
        path = self.rw / name
        if path.exists():
            return
        path.mkdir(mode=0o755, parents=True)
        path.chmod(mode)
        if base is not None:
            os.chown(path, base + USER, base + USER)

    def new_boot(self) -> str:
        """Prepare for a boot: a fresh log, a boot id of its own, no sockets; return the boot id."""
        for path in (self.socket, self.hidden_socket):
            path.unlink(missing_ok=True)
        boot_id = str(uuid.uuid4())
        path = self.path / "boot_id"
        path.unlink(missing_ok=True)  # an earlier boot's is not for writing, to an ordinary user
        path.write_text(f"{boot_id}\n")
        path.chmod(0o444)
        self.log.write_bytes(b"")
        return boot_id

    def last_words(self) -> str:
        """Return the last line that its process 1 had to say."""
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1][:500].rstrip(".") if lines else ""

    def ended_by_itself(self) -> bool:
        """Say whether its daemon came to an end that was meant, such as idleness."""
        return self.last_words() == "ended"

    def remove(self) -> None:
        """Remove it with all in it, however deep and whatever its permissions."""
        remove_tree(self.path)


def remove_tree(path: Path) -> None:
    """Remove a directory that code inside a sandbox has filled.

    By `rm`, which goes to any depth and follows no link. It is moved away first, so that it is gone at once.
    """
    doomed = path.with_name(f".gone-{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        path.rename(doomed)
    except FileNotFoundError:
        return
    sweep(doomed)


def sweep(doomed: Path) -> None:
    """Remove a directory that was moved away."""
    if _rm(doomed) != 0 and doomed.exists():
        # Directories whose user took his own permission to empty them.
        command = ["chmod", "-R", "u+rwX", "--", str(doomed)]
        subprocess.run(command, capture_output=True, timeout=_REMOVAL, check=False)  # noqa: S603 - fixed programs
        _rm(doomed)


def _rm(path: Path) -> int:
    command = ["rm", "-rf", "--one-file-system", "--", str(path)]
    return subprocess.run(command, capture_output=True, timeout=_REMOVAL, check=False).returncode  # noqa: S603
