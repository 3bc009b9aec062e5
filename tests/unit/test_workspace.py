"""The workspace against hostile names and planted links."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.core.errors import InvalidInput, NotFound, TooLarge, UnsafePath
from orchestrion.sandbox.local.ownership import give_tree
from orchestrion.store import scanning
from orchestrion.store.workspace import Workspace, split_path, upload_name


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_round_trip(space: Workspace) -> None:
    await space.write_text("a/b/ü.txt", "grüße")
    assert await space.read_text("a/b/ü.txt") == "grüße"
    assert [file.path for file in await space.list()] == ["a/b/ü.txt"]
    await space.delete("a/b/ü.txt")
    assert await space.list() == []


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\0b", "", "."])
async def test_paths_that_leave_are_refused(space: Workspace, path: str) -> None:
    with pytest.raises(UnsafePath):
        await space.write_text(path, "x")
    with pytest.raises((UnsafePath, NotFound)):
        await space.read_text(path)


@pytest.mark.parametrize("path", ["", "uploads"])
async def test_what_is_no_file_is_refused_with_a_remedy(space: Workspace, path: str) -> None:
    await space.write_text("uploads/a.txt", "a")
    with pytest.raises((UnsafePath, NotFound)) as refused:
        space.open_read(path)
    assert refused.value.remedy


async def test_planted_links_are_not_followed(space: Workspace, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("s3cret")
    await space.write_text("here.txt", "x")
    (space.root / "link").symlink_to(secret / "key")
    (space.root / "folder").symlink_to(secret)
    for path in ("link", "folder/key"):
        with pytest.raises(UnsafePath):
            await space.read_text(path)
    with pytest.raises(UnsafePath):
        await space.write_text("folder/new", "x")
    await space.write_text("link", "replaced, not followed")
    assert (secret / "key").read_text() == "s3cret"
    assert "key" not in [file.path for file in await space.list()]


async def test_no_listing_passes_through_a_link(space: Workspace, tmp_path: Path) -> None:
    (tmp_path / "home" / "inner").mkdir(parents=True)
    (tmp_path / "home" / "inner" / "key").write_text("s3cret")
    await space.write_text("here.txt", "x")
    (space.root / "link").symlink_to(tmp_path / "home")
    assert await space.list("link") == await space.list("link/inner") == []
    with pytest.raises(UnsafePath):
        await space.list("../home")


def nest(root: Path, levels: int) -> None:
    """Make folders in each other, deeper than any path may be long."""
    folder = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)


async def test_a_bottomless_tree_is_listed_given_away_and_removed(space: Workspace) -> None:
    await space.write_text("z/report.md", "x")
    nest(space.root, 3000)
    assert [file.path for file in await space.list()] == ["z/report.md"]
    assert list(await space.snapshot()) == ["z/report.md"]
    give_tree(space.root, os.getuid())
    await space.destroy()
    assert not space.root.exists()


async def test_names_that_no_client_could_be_told_are_left_out(space: Workspace) -> None:
    await space.write_text("good.txt", "x")
    for name in (b"\xff\xfe.txt", b"two\nlines.txt", b"\x1b]0;title\x07.txt"):
        (space.root / os.fsdecode(name)).write_text("x")
    (space.root / os.fsdecode(b"bad\xff")).mkdir()
    (space.root / os.fsdecode(b"bad\xff") / "inner.txt").write_text("x")
    files = await space.list()
    assert [file.path for file in files] == ["good.txt"]
    assert list(await space.snapshot()) == ["good.txt"]
    files[0].model_dump_json()


async def test_a_flood_of_files_is_bounded(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "MAX_FILES", 20)
    monkeypatch.setattr(scanning, "_MAX_NAMES", 100)
    for number in range(60):
        await space.write_text(f"many/{number}.txt", "x")
        (space.root / f"empty-{number}").mkdir()
    assert len(await space.list()) <= 20


async def test_a_file_of_absurd_size_is_not_read_whole(space: Workspace) -> None:
    await space.write_text("report.md", "x")
    os.truncate(space.root / "report.md", 2**33)
    assert len(await space.read_bytes("report.md", limit=10)) == 10
    with pytest.raises(TooLarge):
        await space.read_bytes("report.md")


async def test_a_pipe_is_no_file(space: Workspace) -> None:
    space.root.mkdir()
    os.mkfifo(space.root / "pipe")
    with pytest.raises(NotFound):
        await space.read_bytes("pipe")


async def test_uploads_never_overwrite(space: Workspace) -> None:
    paths = [(await space.store_upload("a.csv", chunks(b"1", b"2"), limit=10)).path for _ in range(3)]
    assert paths == ["uploads/a.csv", "uploads/a-2.csv", "uploads/a-3.csv"]


async def test_an_upload_over_its_limit_leaves_nothing(space: Workspace) -> None:
    with pytest.raises(TooLarge):
        await space.store_upload("a.csv", chunks(b"12345", b"67890", b"1"), limit=10)
    assert list((space.root / "uploads").iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/", "a\x00b", "a\nb", "x" * 300, "é" * 150])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        upload_name(name)


@pytest.mark.parametrize(("name", "kept"), [("../../x", "x"), ("C:\\data\\t.csv", "t.csv"), ("数据.csv", "数据.csv")])
def test_names_that_are_made_safe(name: str, kept: str) -> None:
    assert upload_name(name) == kept


@given(st.text())
def test_any_name_is_safe_or_refused(name: str) -> None:
    try:
        safe = upload_name(name)
    except InvalidInput:
        return
    assert split_path(f"uploads/{safe}") == ("uploads", safe)
    assert len(safe.encode()) <= 200
