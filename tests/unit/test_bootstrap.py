"""Set-up: what it makes of pip's settings, of Node.js versions, of stamps, and of what is missing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "bootstrap"


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[dict[str, ModuleType]]:
    names = ("console", "debian", "pipconfig", "environment", "page")
    sys.path.insert(0, str(SCRIPTS))
    yield {name: importlib.import_module(name) for name in names}
    sys.path.remove(str(SCRIPTS))
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def _no_uv_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "SSL_CERT_FILE", "UV_INDEX_STRATEGY"):
        monkeypatch.delenv(name, raising=False)


def test_the_environment_wins_over_pips_files(bootstrap: dict[str, ModuleType]) -> None:
    listing = (
        "global.index-url='https://a.test/simple'\n:env:.index-url='https://b.test/simple'\nglobal.cert='/c.pem'"
    )
    assert bootstrap["pipconfig"].parse(listing) == {"index-url": "https://b.test/simple", "cert": "/c.pem"}


def test_pip_prints_what_we_read(bootstrap: dict[str, ModuleType], tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://it's.test/simple\nextra-index-url =\n  https://x.test\n  https://y.test\n"
    )
    import subprocess

    printed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=True,
        env={"PIP_CONFIG_FILE": str(config), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    ).stdout
    options = bootstrap["pipconfig"].parse(printed)
    assert options["index-url"] == "https://it's.test/simple"
    assert options["extra-index-url"].split() == ["https://x.test", "https://y.test"]


def test_uv_is_told_what_pip_was_told(bootstrap: dict[str, ModuleType], tmp_path: Path) -> None:
    options = {
        "index-url": "https://a.test/simple",
        "extra-index-url": f"https://b.test/simple file://{tmp_path}/gone file://{tmp_path}",
        "find-links": f"/no/such/folder {tmp_path}",
        "cert": "/etc/ssl/ours.pem",
    }
    assert bootstrap["pipconfig"].to_uv(options) == {
        "UV_DEFAULT_INDEX": "https://a.test/simple",
        "SSL_CERT_FILE": "/etc/ssl/ours.pem",
        "UV_INDEX": f"https://b.test/simple file://{tmp_path}",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": str(tmp_path),
    }


def test_uvs_own_settings_stay(bootstrap: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine.test/simple")
    assert bootstrap["pipconfig"].to_uv({"index-url": "https://a.test/simple"}) == {}


@pytest.mark.parametrize(
    ("written", "flags"), [("true", ["--no-index"]), ("1", ["--no-index"]), ("false", []), ("", [])]
)
def test_no_index_becomes_a_flag(bootstrap: dict[str, ModuleType], written: str, flags: list[str]) -> None:
    assert bootstrap["pipconfig"].flags({"no-index": written}) == flags


@pytest.mark.parametrize(
    ("node", "npm", "enough"),
    [
        ("v20.19.0", "11.0.0", True),
        ("v20.18.9", "11.1.0", False),
        ("v21.7.3", "11.1.0", False),
        ("v22.11.0", "11.1.0", False),
        ("v22.12.0", "11.1.0", True),
        ("v24.1.0", "10.9.2", False),
        ("", "", False),
    ],
)
def test_only_a_node_that_can_build_the_page_is_used(
    bootstrap: dict[str, ModuleType], node: str, npm: str, enough: bool
) -> None:
    page = bootstrap["page"]
    assert page.new_enough(page.version(node), page.version(npm)) is enough


def test_a_stamp_holds_for_what_it_was_made_from_only(
    bootstrap: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = bootstrap["environment"]
    monkeypatch.setattr(environment, "_STAMPS", tmp_path / "stamps")
    first, second = environment.digest(b"one"), environment.digest(b"two")
    assert not environment.done("core", first)
    environment.mark("core", first)
    assert environment.done("core", first)
    assert not environment.done("core", second)


def _need(bootstrap: dict[str, ModuleType], package: str) -> Any:
    return bootstrap["debian"].Need(package, "is of use", present=False)


def test_an_ordinary_user_is_told_what_is_missing_and_nothing_is_run(
    bootstrap: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    debian = bootstrap["debian"]
    monkeypatch.setattr(debian.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian, "run", lambda *args, **kwargs: pytest.fail(f"it ran {args}"))
    debian.provide([_need(bootstrap, "chromium")])
    assert "chromium (is of use) is not installed: going on without it" in capsys.readouterr().out


def test_root_names_the_packages_before_installing(
    bootstrap: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    debian = bootstrap["debian"]
    said_before: list[str] = []

    def run(command: list[str], **_: Any) -> bool:
        said_before.append(capsys.readouterr().out)
        assert "chromium" in " ".join(command)
        return True

    monkeypatch.setattr(debian.os, "geteuid", lambda: 0)
    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian, "run", run)
    debian.provide([_need(bootstrap, "chromium")])
    assert "installing Debian packages: chromium" in said_before[0]


def test_running_a_goal_needs_no_package_but_what_makes_environments(bootstrap: dict[str, ModuleType]) -> None:
    listed = bootstrap["debian"].needs(for_tests=False, for_e2b=False, environment_made=True)
    assert [need.package for need in listed if not need.present] == []
