"""Templates that are built: their names, and what a step's words turn into."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrion.server.e2b.answers import Refusal
from orchestrion.server.e2b.catalogue import Built, Catalogue, split_name
from orchestrion.server.e2b.recipe import _COPY, _glob, local_base


def test_tags_stand_for_builds_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "templates.json"
    catalogue = Catalogue(path)
    catalogue.put("me", "web", ["v1", "default"], Built("one:default", "b1", {"A": "1"}))
    catalogue.put("me", "web", ["v2", "default"], Built("two:default", "b2"))
    again = Catalogue(path)
    for name, snapshot in (("web", "two:default"), ("web:v1", "one:default"), ("web:v2", "two:default")):
        found = again.find("me", name)
        assert found is not None
        assert found.snapshot == snapshot
    assert again.find("me", "web:v3") is None
    assert again.find("other", "web") is None
    assert again.find("me", "web:v1") == Built("one:default", "b1", {"A": "1"})


def test_a_snapshot_is_let_go_with_its_last_tag(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "templates.json")
    catalogue.put("me", "web", ["v1", "v2"], Built("one:default", "b1"))
    assert catalogue.drop("me", "web", ["v1"]) == []
    assert catalogue.drop("me", "web", ["v2"]) == ["one:default"]
    assert catalogue.names("me") == []


@pytest.mark.parametrize("name", ["", ":v1", "web:", "a b", "../x", "web:v 1", "web:a:b"])
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(Refusal):
        split_name(name)


def test_a_name_has_a_tag() -> None:
    assert split_name("team/web:v1") == ("team/web", "v1")
    assert split_name("web") == ("web", "default")


@pytest.mark.parametrize("image", ["ubuntu:22.04", "docker.io/library/debian", "e2bdev/base", "e2bdev/base:latest"])
def test_some_images_stand_for_this_machines_system(image: str) -> None:
    assert local_base(image) == "base"


@pytest.mark.parametrize("image", ["alpine:3", "e2b.dev/none", "registry.test:5000/ubuntu", "ubuntu2:1"])
def test_other_images_do_not(image: str) -> None:
    assert local_base(image) is None


def _copied(tmp_path: Path, files: dict[str, str], source: str, destination: str) -> list[str]:
    """Run the script of a COPY in a directory; return the files that came of it."""
    context, work = tmp_path / "context", tmp_path / "work"
    for name, text in files.items():
        path = context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    work.mkdir()
    archive = tmp_path / "copied.tar"
    subprocess.run(["tar", "-cf", archive, "-C", context, "."], check=True)
    owner = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
    script = _COPY.format(source=_glob(source), destination=destination, owner=owner, mode="''")
    script = script.replace("/tmp/.copied.tar", str(archive))
    subprocess.run([shutil.which("bash") or "bash", "-c", script], cwd=work, check=True)
    return sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        ("folder/*", "to", ["to/a b.txt", "to/c.txt"]),
        ("folder", "to", ["to/a b.txt", "to/c.txt"]),
        ("folder/c.txt", "to.txt", ["to.txt"]),
        ("folder/c.txt", "to/", ["to/c.txt"]),
        ("folder/a b.txt", "deep/er/x", ["deep/er/x"]),
        ("folder", ".", ["a b.txt", "c.txt"]),
    ],
)
def test_files_are_copied_as_docker_does(tmp_path: Path, source: str, destination: str, expected: list[str]) -> None:
    files = {"folder/a b.txt": "1", "folder/c.txt": "2", "other.txt": "3"}
    assert _copied(tmp_path, files, source, destination) == expected


def test_a_source_is_no_command(tmp_path: Path) -> None:
    script = f"printf '%s,' {_glob('$(touch x); echo')}"
    printed = subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert printed == "$(touch x); echo,"
    assert list(tmp_path.iterdir()) == []
