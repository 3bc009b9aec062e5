"""Ids, settings, errors, coalescing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrion.core import errors
from orchestrion.core.coalesce import Coalescer
from orchestrion.core.errors import ConfigError
from orchestrion.core.ids import is_id, new_id
from orchestrion.core.settings import describe, environment_name, load_settings


def test_ids_are_unique_sortable_and_safe() -> None:
    made = [new_id("run") for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(is_id(one, "run") for one in made)
    assert made[0][:14] <= made[-1][:14]
    assert not is_id("run_../../etc/passwd", "run")
    assert not is_id(made[0], "ses")


def test_every_error_says_its_code() -> None:
    found = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.OrchestrionError)
    ]
    assert len({kind.code for kind in found}) == len(found)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in found)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRION_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text('port = 1234\nmax_steps = 7\nanthropic_model = "m"\n')
    monkeypatch.setenv("ORCHESTRION_PORT", "4321")
    settings = load_settings(max_steps=9)
    assert (settings.port, settings.max_steps, settings.anthropic_model) == (4321, 9, "m")
    origins = {line.name: line.origin for line in describe(settings)}
    assert origins["ORCHESTRION_PORT"] == "environment (ORCHESTRION_PORT)"
    assert origins["ANTHROPIC_MODEL"] == "config.toml"
    assert origins["ORCHESTRION_HOST"] == "default"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ORCHESTRION_PROT", "1", "Did you mean ORCHESTRION_PORT?"),
        ("ORCHESTRION_PORT", "abc", "ORCHESTRION_PORT is malformed"),
        ("SANDBOX_MODE", "cloud", "SANDBOX_MODE is malformed"),
    ],
)
def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        load_settings()


def test_the_file_takes_the_names_of_the_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRION_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text('ORCHESTRION_PORT = 1234\nSANDBOX_MODE = "local"\nANTHROPIC_MODEL = "m"\n')
    settings = load_settings()
    assert (settings.port, settings.sandbox_mode, settings.anthropic_model) == (1234, "local", "m")
    origins = {line.name: line.origin for line in describe(settings)}
    assert origins["ORCHESTRION_PORT"] == origins["SANDBOX_MODE"] == "config.toml"


@pytest.mark.parametrize("text", ["x =", "prot = 1", 'port = "abc"'])
def test_a_wrong_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ORCHESTRION_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError):
        load_settings()


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-very-secret")
    monkeypatch.setenv("ORCHESTRION_API_KEYS", "key-one,key-two")
    settings = load_settings()
    assert len(settings.api_keys) == 2
    shown = repr(settings) + "".join(line.value for line in describe(settings))
    assert not any(secret in shown for secret in ("sk-very-secret", "key-one", "key-two"))


def test_the_designs_names_are_kept() -> None:
    assert environment_name("anthropic_api_key") == "ANTHROPIC_API_KEY"
    assert environment_name("sandbox_mode") == "SANDBOX_MODE"
    assert environment_name("port") == "ORCHESTRION_PORT"


async def test_the_first_piece_is_not_held_back() -> None:
    sent: list[str] = []

    async def send(text: str) -> None:
        sent.append(text)

    pieces = Coalescer(send, interval=0.05)
    await pieces.add("first")
    assert sent == ["first"]
    for letter in "abcdefgh":
        await pieces.add(letter)
        await asyncio.sleep(0.001)
    await pieces.close()
    assert "".join(sent) == "firstabcdefgh"
    assert len(sent) < 5


async def test_a_failing_reader_is_heard() -> None:
    async def send(_: str) -> None:
        raise ValueError("full")

    pieces = Coalescer(send)
    with pytest.raises(ValueError, match="full"):
        await pieces.add("x")


def test_importing_the_package_imports_no_room() -> None:
    code = (
        "import orchestrion, sys;"
        "print([m for m in sys.modules if m.startswith(('langchain', 'pydantic', 'sqlalchemy'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
