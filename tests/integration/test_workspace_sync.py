"""A workspace that is copied into a sandbox and back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lone_guest_support import alone, daemon

from orchestrion.core.errors import TooLarge
from orchestrion.sandbox.client import GuestSandbox
from orchestrion.sandbox.e2b import sync as module
from orchestrion.sandbox.e2b.sync import WorkspaceSync

__all__ = ["alone", "daemon"]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "host").mkdir()
    return tmp_path / "host"


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    (tmp_path / "guest").mkdir()
    return tmp_path / "guest"


@pytest.fixture
def sync(host: Path, guest: Path, alone: GuestSandbox) -> WorkspaceSync:
    return WorkspaceSync(host, alone.files, str(guest))


def shown(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


async def test_what_changes_goes_both_ways(sync: WorkspaceSync, host: Path, guest: Path) -> None:
    (host / "a").mkdir()
    (host / "a" / "in.txt").write_text("1")
    await sync.push()
    assert shown(guest) == {"a/in.txt": "1"}
    (guest / "out.txt").write_text("2")
    (guest / "a" / "in.txt").write_text("changed")
    assert await sync.pull() == []
    assert shown(host) == {"a/in.txt": "changed", "out.txt": "2"}
    (host / "out.txt").write_text("again")
    await sync.push()
    assert shown(guest) == {"a/in.txt": "changed", "out.txt": "again"}


async def test_what_has_not_changed_is_not_copied(sync: WorkspaceSync, host: Path, guest: Path) -> None:
    (host / "one.txt").write_text("1")
    await sync.push()
    before = (guest / "one.txt").stat().st_mtime_ns, (host / "one.txt").stat().st_mtime_ns
    await sync.pull()
    await sync.push()
    assert ((guest / "one.txt").stat().st_mtime_ns, (host / "one.txt").stat().st_mtime_ns) == before


async def test_removals_go_both_ways(sync: WorkspaceSync, host: Path, guest: Path) -> None:
    for name in ("one", "two", "three"):
        (host / name).write_text(name)
    await sync.push()
    (guest / "one").unlink()
    await sync.pull()
    assert sorted(shown(host)) == ["three", "two"]
    (host / "two").unlink()
    await sync.push()
    assert sorted(shown(guest)) == ["three"]


async def test_where_both_changed_the_hosts_stays(sync: WorkspaceSync, host: Path, guest: Path) -> None:
    (host / "both.txt").write_text("0")
    (host / "removed.txt").write_text("0")
    await sync.push()
    (host / "both.txt").write_text("the host's")
    (host / "removed.txt").write_text("the host's")
    (guest / "both.txt").write_text("the guest's, longer")
    (guest / "removed.txt").unlink()
    await sync.pull()
    assert shown(host) == {"both.txt": "the host's", "removed.txt": "the host's"}
    await sync.push()
    assert shown(guest) == {"both.txt": "the host's", "removed.txt": "the host's"}


async def test_links_lead_nowhere(sync: WorkspaceSync, host: Path, guest: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (tmp_path / "elsewhere").mkdir()
    os.symlink(secret, guest / "link.txt")
    os.symlink(tmp_path, guest / "folder")
    os.symlink(secret, host / "own-link.txt")
    os.symlink(tmp_path / "elsewhere", host / "trap")
    (guest / "trap").mkdir()
    (guest / "trap" / "x.txt").write_text("x")
    await sync.push()
    told = await sync.pull()
    assert "own-link.txt" not in shown(guest)
    assert not (host / "link.txt").exists()
    assert not (host / "folder").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert any("trap/x.txt" in note for note in told)


async def test_what_is_too_large_stays_and_is_told(
    sync: WorkspaceSync, host: Path, guest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 10)
    (guest / "large.bin").write_text("x" * 11)
    (guest / "small.bin").write_text("x" * 10)
    told = await sync.pull()
    assert sorted(shown(host)) == ["small.bin"]
    assert "large.bin" in told[0]
    (host / "huge.bin").write_text("x" * 100)
    with pytest.raises(TooLarge, match=r"huge\.bin"):
        await sync.push()


async def test_one_that_is_found_again(sync: WorkspaceSync, host: Path, guest: Path, alone: GuestSandbox) -> None:
    (host / "same.txt").write_text("same")
    await sync.push()
    (guest / "meanwhile.txt").write_text("inside")
    found = WorkspaceSync(host, alone.files, str(guest))
    await found.begin()
    await found.pull()
    assert shown(host) == {"same.txt": "same", "meanwhile.txt": "inside"}
