"""Every example of the documentation is run as it stands, by the real command, with the playbook."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_DOCUMENTED_URL = "http://127.0.0.1:8700"
_END = "=-=end of command=-="


def _blocks(page: Path, language: str) -> list[str]:
    return [block for name, block in _FENCE.findall(page.read_text()) if name == language]


def _with(language: str) -> list[Path]:
    return [page for page in PAGES if _blocks(page, language)]


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment as a newcomer has it: no key, a data directory of its own, the commands on the path."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORCHESTRION_", "ANTHROPIC_", "OPENAI_"))
    }
    home = tmp_path / "home"
    home.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "HOME": str(home), "ORCHESTRION_HOME": str(home / "data"), "PATH": path, "COLUMNS": "120"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the checkout to an example."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


def _commands(block: str) -> list[tuple[str, str]]:
    """Split a console block into commands, each with the output shown below it."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(command, shown) for command, _, shown in (part.partition("\n") for part in parts)]


def _pattern(shown: str) -> re.Pattern[str]:
    """`…` stands for anything, over lines too."""
    return re.compile(r"\s*" + re.escape(shown.strip()).replace("…", r"(?s:.*)") + r"\s*")


def test_the_pattern_can_fail() -> None:
    assert _pattern("a\n…\nb\n").fullmatch("a\nx\ny\nb\n")
    assert not _pattern("a\n…\nb\n").fullmatch("a\nx\ny\n")
    assert not _pattern("data…").fullmatch("chat: no data")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", _with("console"), ids=_id)
def test_console_examples_do_what_they_show(page: Path, env: dict[str, str], checkout: Path) -> None:
    commands = [pair for block in _blocks(page, "console") for pair in _commands(block)]
    script = "".join(f"{command}\nprintf '\\n{_END} %s\\n' $?\n" for command, _ in commands)
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1\n{script}"],
        cwd=checkout,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=230,
        check=False,
    )
    results = re.findall(rf"(.*?)\n{_END} (\d+)\n", done.stdout, flags=re.DOTALL)
    assert len(results) == len(commands), done.stdout
    for (command, shown), (printed, code) in zip(commands, results, strict=True):
        assert code == "0", f"$ {command}\n{printed}"
        if shown.strip():
            assert _pattern(shown).fullmatch(printed), f"$ {command}\n{printed}"


@pytest.fixture
def server(env: dict[str, str]) -> Iterator[str]:
    """A real server on a free port."""
    command = ["orchestrion", "serve", "--port", "0"]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            found = next(
                (match for line in process.stdout if (match := re.search(r"http://127\.0\.0\.1:\d+", line))), None
            )
            assert found, "the server did not say where it listens"
            yield found[0]
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", _with("python"), ids=_id)
def test_python_examples_run(page: Path, env: dict[str, str], checkout: Path, server: str) -> None:
    for block in _blocks(page, "python"):
        done = subprocess.run(
            [sys.executable, "-c", block.replace(_DOCUMENTED_URL, server)],
            cwd=checkout,
            env=env,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
