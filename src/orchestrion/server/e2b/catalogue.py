"""Templates that were built here: names and tags, the snapshot behind each, and what starts in its sandboxes."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from orchestrion.server.e2b.answers import Refusal

DEFAULT_TAG = "default"
_NAME = re.compile(r"^[a-z0-9][a-z0-9_./-]{0,127}$", re.IGNORECASE)
_TAG = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,127}$", re.IGNORECASE)


@dataclass(frozen=True)
class Built:
    """One build of a template.

    Attributes:
        snapshot: The file system.
        build_id: Of the build that made it.
        envs: Variables of its sandboxes.
        user: Who runs the start command.
        workdir: Where it runs.
        start: The command that is started in each sandbox; empty for none.
        ready: The command that exits with 0 once a sandbox is ready; empty for none.
    """

    snapshot: str
    build_id: str
    envs: Mapping[str, str] = field(default_factory=dict)
    user: str = "user"
    workdir: str = "/home/user"
    start: str = ""
    ready: str = ""


def split_name(text: str) -> tuple[str, str]:
    """Return name and tag of `name` or `name:tag`.

    Raises:
        Refusal: Either is malformed.
    """
    name, colon, tag = text.partition(":")
    check_tag(tag if colon else DEFAULT_TAG)
    if not _NAME.match(name) or ".." in name:
        raise Refusal(400, f"{text[:80]!r} is no template's name: use letters, digits, '-', '_' and '.', then :tag.")
    return name, tag or DEFAULT_TAG


def check_tag(tag: str) -> None:
    """Refuse what is no tag."""
    if not _TAG.match(tag):
        raise Refusal(400, f"{tag[:80]!r} is no tag: use letters, digits, '-', '_' and '.'.")


class Catalogue:
    """What was built, by owner, name and tag; kept in one file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, dict[str, dict[str, Built]]] = {}
        if path.exists():
            stored = json.loads(path.read_text())
            self._known = {
                owner: {name: {tag: Built(**built) for tag, built in tags.items()} for name, tags in names.items()}
                for owner, names in stored.items()
            }

    def find(self, owner: str, text: str) -> Built | None:
        """Return what `name` or `name:tag` stands for; without a tag the default one, or the newest."""
        name, _, tag = text.partition(":")
        tags = self.tags(owner, name)
        if tag or not tags:
            return tags.get(tag)
        return tags.get(DEFAULT_TAG) or list(tags.values())[-1]

    def tags(self, owner: str, name: str) -> Mapping[str, Built]:
        """Return all of a name's tags."""
        return self._known.get(owner, {}).get(name, {})

    def names(self, owner: str) -> list[str]:
        """Return an owner's names."""
        return list(self._known.get(owner, {}))

    def put(self, owner: str, name: str, tags: Sequence[str], built: Built) -> None:
        """Let tags stand for a build."""
        entry = self._known.setdefault(owner, {}).setdefault(name, {})
        for tag in tags:
            entry.pop(tag, None)
            entry[tag] = built
        self._save()

    def drop(self, owner: str, name: str, tags: Sequence[str] | None = None) -> list[str]:
        """Forget some or all of a name's tags; return the snapshots that nothing stands for any more."""
        entry = self._known.get(owner, {}).get(name, {})
        gone = {entry.pop(tag).snapshot for tag in (list(entry) if tags is None else tags) if tag in entry}
        if not entry:
            self._known.get(owner, {}).pop(name, None)
        self._save()
        return sorted(gone - self.snapshots(owner))

    def snapshots(self, owner: str) -> set[str]:
        """Return the snapshots behind an owner's templates."""
        return {built.snapshot for tags in self._known.get(owner, {}).values() for built in tags.values()}

    def _save(self) -> None:
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        known = {
            owner: {name: {tag: asdict(built) for tag, built in tags.items()} for name, tags in names.items()}
            for owner, names in self._known.items()
        }
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(known))
        os.replace(draft, self.path)
