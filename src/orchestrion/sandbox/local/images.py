"""Snapshots: what sandboxes had written, kept in `snapshots/` as templates for new ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from orchestrion.core.errors import Conflict, InvalidInput, NotFound, SandboxError
from orchestrion.sandbox.local.launcher import copying
from orchestrion.sandbox.local.places import remove_tree
from orchestrion.sandbox.local.records import Layout, is_id, new_id
from orchestrion.sandbox.protocols import Snapshot

BUILT_IN = ("base", "code-interpreter-v1")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}(:[a-zA-Z0-9][a-zA-Z0-9._-]{0,63})?")
_COPY_SECONDS = 600


@dataclass(frozen=True)
class Image:
    """`snapshot.json`.

    Attributes:
        key: Its directory's name.
        names: The names it has, each with its tag.
        sandbox_id: What it was taken of.
        created_at: Seconds since the epoch.
        layout: How its sandbox's file system was put together.
        base: The host's id of that sandbox's root; None if its user was the caller.
        size: Bytes on disk.
        owner: Whose sandbox it was taken of; nobody else sees or uses it.
        user: Who runs what names nobody in its sandboxes; empty for `user`.
        workdir: Where that starts; empty for the user's home.
    """

    key: str
    names: tuple[str, ...]
    sandbox_id: str
    created_at: float
    layout: Layout
    base: int | None
    size: int
    owner: str = field(default="", kw_only=True)
    user: str = ""
    workdir: str = ""

    @property
    def id(self) -> str:
        """What names it in a spec."""
        return self.names[0] if self.names else f"{self.key}:default"

    def described(self) -> Snapshot:
        """Return it as callers see it."""
        made = datetime.fromtimestamp(self.created_at, UTC)
        names = tuple(name.removesuffix(":default") for name in self.names)
        return Snapshot(self.id, names, self.sandbox_id, made, self.size, self.owner)


class Images:
    """The directory `snapshots` of a data directory.

    Args:
        root: Its path; made when first needed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def rw(self, image: Image) -> Path:
        """Return where its files are."""
        return self._root / image.key / "rw"

    def all(self) -> list[Image]:
        """Return every snapshot, newest first."""
        found = [image for path in self._root.glob("*/snapshot.json") if (image := _read(path)) is not None]
        return sorted(found, key=lambda image: -image.created_at)

    def find(self, template: str, owner: str | None = None) -> Image | None:
        """Return the snapshot that a template names; None for a built-in template.

        Args:
            template: One of its names, or its id.
            owner: Whose it must be; None for anybody's.

        Raises:
            NotFound: There is none of that name.
        """
        if template in BUILT_IN:
            return None
        images = [image for image in self.all() if owner in {None, image.owner}]
        wanted = template if ":" in template else f"{template}:default"
        for image in images:
            if wanted in (*image.names, f"{image.key}:default"):
                return image
        known = ", ".join([*BUILT_IN, *(image.id for image in images[:20])])
        raise NotFound(f"There is no template or snapshot `{template[:200]}`.", f"There are: {known}.")

    def start(self) -> str:
        """Make a directory for a new one; return its key."""
        key = new_id()
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._root / key).mkdir(mode=0o700)
        return key

    def path(self, key: str) -> Path:
        """Return where the files of the one that is being made go."""
        return self._root / key / "rw"

    def finish(self, image: Image) -> Image:
        """Record one whose files are there; it takes its name from an earlier one of the same owner.

        Raises:
            Conflict: The name is another owner's.
        """
        others = self.all()
        if any(other.owner != image.owner and set(other.names) & set(image.names) for other in others):
            raise Conflict(f"The name {image.names[0]} is taken.", "Choose another.")
        for other in others:
            left = tuple(name for name in other.names if name not in image.names)
            if left != other.names:
                self._write(replace(other, names=left))
        complete = replace(image, size=_size(self.rw(image)))
        self._write(complete)
        return complete

    def _write(self, image: Image) -> None:
        path = self._root / image.key / "snapshot.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(image)))
        part.replace(path)

    def remove(self, key: str) -> None:
        """Remove one, also one that was not finished."""
        remove_tree(self._root / key)

    def sweep(self) -> None:
        """Remove what was never finished."""
        for path in self._root.glob("*"):
            if is_id(path.name) and _read(path / "snapshot.json") is None:
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > 2 * _COPY_SECONDS:
                        remove_tree(path)


def full_name(name: str) -> str:
    """Return a snapshot's name with its tag.

    Raises:
        InvalidInput: It is none.
    """
    if not _NAME.fullmatch(name) or name.partition(":")[0] in BUILT_IN:
        raise InvalidInput(
            f"`{name[:100]}` can't be a snapshot's name.",
            "Use lower-case letters, digits, `.`, `_` and `-`, and none of the built-in templates' names.",
        )
    return name if ":" in name else f"{name}:default"


def _read(path: Path) -> Image | None:
    try:
        values = json.loads(path.read_text())
        return Image(**{**values, "names": tuple(values["names"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _size(root: Path) -> int:
    total, pending = 0, [str(root)]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                total += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return total


async def copy(source: Path, destination: Path, ids: tuple[int, int], workspace: Path | None = None) -> None:
    """Copy what a sandbox has written.

    Args:
        source: A directory `rw`.
        destination: Where to; filled as far as it went if this fails.
        ids: Where the owners' ids begin there, and where they shall begin here.
        workspace: The session's directory, if it lies over the sandbox's own.

    Raises:
        SandboxError: It could not be copied, or took too long.
    """
    arguments = [str(source), str(destination), *map(str, ids), str(workspace or "")]
    # What its user took his own right to read from is to be copied too: root reads it, be it of a namespace only.
    as_root = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--"]
    process = await asyncio.create_subprocess_exec(
        *as_root, sys.executable, "-I", "-S", copying.__file__, *arguments, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_COPY_SECONDS):
            _, complaint = await process.communicate()
    except TimeoutError:
        raise SandboxError(
            "The sandbox's files could not be copied in time.", "Remove what it doesn't need."
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()
    if process.returncode:
        lines = complaint.decode(errors="replace").strip().splitlines() or ["it ended without a word"]
        raise SandboxError(f"The sandbox's files could not be copied: {lines[0][:300].rstrip('.')}.")
