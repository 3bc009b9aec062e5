from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrion.cli.entry import run
from orchestrion.cli.errors import explain
from orchestrion.cli.files import check_files, read_blocks
from orchestrion.cli.goal import checked_request, playbook_label
from orchestrion.core.errors import BudgetSpent, InvalidInput, ModelError, NotFound, RunCancelled, TooLarge
from orchestrion.core.settings import load_settings


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("ORCHESTRION_", "ANTHROPIC_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ORCHESTRION_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["skills", "list"], "No such command 'skills'"),
        (["run"], "Missing argument 'GOAL'"),
        (["run", "x", "--agent", "wizard"], "'wizard' is not one of"),
        (["run", "x", "--mode", "fast"], "'fast' is not one of"),
        (["run", "x", "--budget-usd", "much"], "--budget-usd"),
        (["run", "x", "--budget-usd", "-1"], "--budget-usd is out of range"),
        (["run", "x", "--budget-usd", "nan"], "--budget-usd is out of range"),
        (["run", "x", "--budget-tokens", "0"], "--budget-tokens is out of range"),
        (["run", "x", "--timeout", "0"], "--timeout is out of range"),
        (["run", "x", "--timeout", "inf"], "--timeout is out of range"),
        (["run", "x", "--whatever"], "No such option: --whatever"),
        (["run", "  "], "The goal is empty"),
        (["run", "bad \udcff"], "not valid UTF-8"),
        (["run", "x", "-f", "/no/such/file.csv"], "/no/such/file.csv does not exist"),
        (["run", "x", "-f", "/tmp"], "is a directory"),
        (["route", ""], "The goal is empty"),
        (["serve", "--port", "99999"], "--port"),
        (["runs", "events"], "Missing argument 'RUN_ID'"),
    ],
)
def test_bad_usage_is_one_sentence_with_a_remedy_and_makes_nothing(
    arguments: list[str], said: str, clean_environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert err.startswith("Error: ")
    assert len(err.splitlines()) == 2
    assert "Traceback" not in err
    assert out == ""
    assert not (clean_environment / "home").exists()


def test_a_malformed_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ORCHESTRION_PORT", "many")
    assert run(["config", "show"]) == 2
    assert "The setting ORCHESTRION_PORT is malformed" in capsys.readouterr().err


def test_an_unknown_setting_is_named_with_the_likely_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORCHESTRION_LOGLEVEL", "debug")
    assert run(["run", "hello"]) == 2
    assert "Did you mean ORCHESTRION_LOG_LEVEL?" in capsys.readouterr().err


def test_config_shows_origins_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    assert run(["config", "show", "--json"]) == 0
    out = capsysbinary.readouterr().out
    assert b"sk-secret" not in out
    [key] = [line for line in json.loads(out) if line["name"] == "ANTHROPIC_API_KEY"]
    assert key["origin"] == "environment (ANTHROPIC_API_KEY)"
    assert run(["config", "show"]) == 0
    assert b"sk-secret" not in capsysbinary.readouterr().out


def test_route_decides_without_running_anything(
    clean_environment: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    table = clean_environment / "sales.csv"
    table.write_text("a,b\n1,2\n")
    assert run(["route", "what is in it?", "-f", str(table), "--json"]) == 0
    decision = json.loads(capsysbinary.readouterr().out)
    assert decision["agent"] == "data"
    assert decision["by"] == "rule"
    assert "sales.csv" in decision["reason"]
    assert not (clean_environment / "home").exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelError("No.", "Do."), 1),
        (InvalidInput("No.", "Do."), 2),
        (BudgetSpent("usd", 1), 4),
        (RunCancelled("x"), 130),
        (ValueError("odd"), 1),
    ],
)
def test_every_error_has_its_code_and_no_traceback(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert explain(error) == code
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("ORCHESTRION_LOG_LEVEL", "debug")
    assert explain(error) == code
    assert type(error).__name__ in capsys.readouterr().err


def test_an_error_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    explain(ModelError("provider said \x1b[2Jboo"))
    assert capsys.readouterr().err == "Error: provider said boo\n"


def test_files_are_checked_and_each_is_taken_once(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"x" * 100)
    assert check_files([str(file), str(tmp_path / "." / "a.csv")]) == [file]
    with pytest.raises(TooLarge, match=r"100 B; the limit is 99 B"):
        check_files([str(file)], limit=99)
    with pytest.raises(NotFound):
        check_files([f"{file}/b"])
    with pytest.raises(InvalidInput):
        check_files(["a\0b"])


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.csv"
    file.write_text("x")
    monkeypatch.setattr("orchestrion.cli.files.os.access", lambda path, mode: False)
    with pytest.raises(InvalidInput, match="permission denied"):
        check_files([str(file)])


async def test_a_file_is_read_block_by_block(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(bytes(2_500_000))
    seen: list[int] = []
    sizes = [len(block) async for block in read_blocks(file, seen.append)]
    assert max(sizes) <= 1 << 20
    assert sum(sizes) == seen[-1] == 2_500_000
    with pytest.raises(InvalidInput):
        _ = [block async for block in read_blocks(tmp_path / "gone")]


def test_the_playbook_label_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert playbook_label(load_settings(), None).startswith("No model key is set")
    assert not playbook_label(load_settings(), "playbook").startswith("No model key")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    assert not playbook_label(load_settings(), None).startswith("No model key")


def test_the_goal_is_kept_but_for_its_edges() -> None:
    assert checked_request({"goal": "  two\nlines "}).goal == "two\nlines"


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys, orchestrion.cli.entry as e\n"
        "assert e.run(['--help']) == 0 and e.run(['--version']) == 0 and e.run(['run', '--help']) == 0\n"
        "heavy = {'pydantic_settings', 'langchain', 'langgraph', 'sqlalchemy', 'fastapi', 'httpx', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_importing_the_package_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import orchestrion; print(len(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 3
