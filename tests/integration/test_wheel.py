"""The wheel: holds the page and the guest files, installs into an environment of its own, and starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = Path("src/orchestrion/server/static/index.html")


def _copy_of_the_checkout(to: Path, *, with_page: bool) -> Path:
    """Copy what the build reads; the page is a stand-in where it has not been built here."""
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, to / name)
    for name in ("src", "requirements"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__", "static"))
    if with_page:
        (to / PAGE).parent.mkdir(parents=True)
        (to / PAGE).write_text("<!doctype html><title>Orchestrion</title>")
    # The page is not in git; the build must take it all the same.
    shutil.copy(ROOT / ".gitignore", to / ".gitignore")
    return to


def _build(checkout: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(checkout)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    built = _build(_copy_of_the_checkout(tmp_path_factory.mktemp("checkout"), with_page=True), out)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(out.glob("*.whl"))


def test_everything_the_product_reads_is_inside(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "orchestrion/server/static/index.html" in names
    source = ROOT / "src"
    shipped = {
        str(path.relative_to(source))
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "static" not in path.parts
    }
    assert shipped <= names


def test_it_installs_and_starts(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, str(wheel)], check=True, timeout=60)
    # What it depends on is borrowed from this environment, without this environment's own path to the source.
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": sysconfig.get_paths()["purelib"]}
    started = subprocess.run(
        [str(environment / "bin" / "orchestrion"), "--help"],
        capture_output=True,
        text=True,
        env=env,
        timeout=60,
        check=False,
    )
    assert started.returncode == 0, started.stderr
    assert "run" in started.stdout
    where = subprocess.run(
        [str(python), "-c", "import orchestrion; print(orchestrion.__file__)"],
        capture_output=True,
        text=True,
        env=env,
        check=True,
    )
    assert where.stdout.startswith(str(environment))


def test_a_wheel_without_the_page_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkout").mkdir()
    built = _build(_copy_of_the_checkout(tmp_path / "checkout", with_page=False), tmp_path / "dist")
    assert built.returncode != 0
    assert "run `make page` first" in built.stdout + built.stderr
