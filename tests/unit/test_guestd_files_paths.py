"""What paths lead to, and how an upload's body becomes files."""

from __future__ import annotations

import contextlib
import gzip
import os
import resource
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrion.sandbox.guest.guestd import tree
from orchestrion.sandbox.guest.guestd.connect import RpcError
from orchestrion.sandbox.guest.guestd.paths import READ, open_directories, open_path
from orchestrion.sandbox.guest.guestd.uploads import Target, Upload, make_upload
from orchestrion.sandbox.guest.guestd.users import User, resolve

same_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20)
segments = names.filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)


def owner(home: Path) -> User:
    return User("user", os.getuid(), os.getgid(), str(home), ())


@given(st.lists(st.one_of(names, st.sampled_from([".", "..", ""])), max_size=8))
def test_a_resolved_path_is_absolute_and_plain(parts: list[str]) -> None:
    path = "/".join(parts)
    if path.startswith("~") and path[1:2] not in ("", "/"):
        return
    found = resolve(path, User("user", 1, 1, "/home/user", ()))
    assert found.startswith("/")
    assert not {".", ".."} & set(found.split("/"))


@same_directory
@given(st.lists(segments, min_size=1, max_size=4))
def test_directories_are_made_where_they_were_asked_for(tmp_path: Path, parts: list[str]) -> None:
    path = os.path.join(str(tmp_path), *parts)
    existed = os.path.isdir(path)
    fd, made = open_directories(path, owner(tmp_path))
    try:
        assert os.path.samestat(os.fstat(fd), os.stat(path))
        assert made is not existed
    finally:
        os.close(fd)


def test_a_link_that_leads_nowhere_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(RpcError, match="in the way"):
        open_directories(str(tmp_path / "link/below"), owner(tmp_path))
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("path", ["/proc/self/root/etc/passwd", "/proc/self/cwd/x", "/proc/thread-self/root/etc"])
def test_magic_links_are_not_followed(path: str) -> None:
    with pytest.raises(OSError, match="symbolic links"):
        open_path(path, READ)


def test_what_others_remove_meanwhile_is_removed(tmp_path: Path) -> None:
    (tmp_path / "dir/sub").mkdir(parents=True)
    tree.remove(str(tmp_path / "dir"))
    tree.remove(str(tmp_path / "dir"))
    tree.remove(str(tmp_path / "dir/sub/below"))
    assert not (tmp_path / "dir").exists()


def test_a_tree_of_any_depth_is_removed_with_few_descriptors(tmp_path: Path) -> None:
    # Longer than any path can be, deeper than Python recurses and than a process may open directories.
    place = os.open(tmp_path, os.O_RDONLY)
    for name in ("kept", *["d" * 10] * 2500):
        os.mkdir(name, dir_fd=place)
        below = os.open(name, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=place))
    os.symlink("/", "link", dir_fd=place)
    os.close(place)
    kept = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The limit is a descriptor's highest number, and other tests of this process may hold some.
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 200, kept[1]))
    try:
        tree.remove(str(tmp_path / "kept" / ("d" * 10)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, kept)
        # pytest can't remove what is so deep, and would fail at its next start.
        subprocess.run(["rm", "-rf", str(tmp_path / "kept" / ("d" * 10))], check=True)
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_removal_that_is_not_permitted_closes_what_it_opened(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may remove everything")
    (tmp_path / "dir/locked").mkdir(parents=True)
    (tmp_path / "dir/locked/file").touch()
    (tmp_path / "dir/locked").chmod(0o500)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(PermissionError):
        tree.remove(str(tmp_path / "dir"))
    assert len(os.listdir("/proc/self/fd")) == before
    (tmp_path / "dir/locked").chmod(0o700)


def test_a_listing_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_ENTRIES", 5)
    for number in range(5):
        (tmp_path / str(number)).touch()
    assert len(tree.list_directory(str(tmp_path), 1)) == 5
    (tmp_path / "more").touch()
    with pytest.raises(RpcError, match="more than the 5 entries"):
        tree.list_directory(str(tmp_path), 1)


def test_a_listing_is_bounded_whatever_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_BYTES", 10_000)
    for number in range(20):
        (tmp_path / (f"{number:02}" + "\x01" * 250)).touch()
    with pytest.raises(RpcError, match="list a part of it"):
        tree.list_directory(str(tmp_path), 1)


def cut(body: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(body[:size])
        body = body[size:]
    return [*pieces, body]


def upload_to(home: Path, headers: dict[str, str], path: str | None = None) -> Upload:
    user = owner(home)
    return make_upload(headers, path, user, lambda where: Target(where, user, {}))


cuts = st.lists(st.integers(1, 50), max_size=30)


@same_directory
@given(st.binary(max_size=300), cuts)
def test_a_zipped_body_becomes_its_content_however_it_is_cut(tmp_path: Path, data: bytes, sizes: list[int]) -> None:
    headers = {"content-type": "application/octet-stream", "content-encoding": "gzip"}
    upload = upload_to(tmp_path, headers, "file")
    # A stream may be several, one after the other.
    for piece in cut(gzip.compress(data[:50]) + gzip.compress(data[50:]), sizes):
        upload.feed([piece])
    assert upload.finish()[0]["path"] == str(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data


@same_directory
@given(st.lists(st.binary(max_size=100), min_size=1, max_size=3), cuts)
def test_a_form_becomes_its_files_however_it_is_cut(tmp_path: Path, files: list[bytes], sizes: list[int]) -> None:
    body = b""
    for number, data in enumerate(files):
        body += b'--=edge=\r\nContent-Disposition: form-data; name="file"; filename="%d"\r\n' % number
        body += b"Content-Type: text/plain\r\n\r\n" + data + b"\r\n"
    upload = upload_to(tmp_path, {"content-type": 'multipart/form-data; boundary="=edge="'})
    upload.feed(cut(body + b"--=edge=--\r\n", sizes))
    assert [entry["name"] for entry in upload.finish()] == [str(number) for number in range(len(files))]
    assert [(tmp_path / str(number)).read_bytes() for number in range(len(files))] == files


@given(st.binary(max_size=200))
def test_no_body_breaks_the_reader_of_forms(body: bytes) -> None:
    upload = upload_to(Path("/nonexistent"), {"content-type": "multipart/form-data; boundary=edge"})
    with contextlib.suppress(RpcError):
        upload.feed([body])
        assert upload.finish() == []


def test_a_bomb_is_unpacked_piece_by_piece(tmp_path: Path) -> None:
    headers = {"content-type": "application/octet-stream", "content-encoding": "gzip"}
    upload = upload_to(tmp_path, headers, "file")
    upload.feed([gzip.compress(bytes(50 << 20))])
    upload.finish()
    assert (tmp_path / "file").stat().st_size == 50 << 20


def test_a_half_upload_takes_no_old_file_away(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    for name in ("old", "new"):
        upload = upload_to(tmp_path, {"content-type": "application/octet-stream"}, name)
        upload.feed([b"half"])
        upload.abandon()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]
