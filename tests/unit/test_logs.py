"""Log lines: no key in them, and nothing that steers a terminal or passes for another line."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import structlog

from orchestrion.core.logs import configure_logs
from orchestrion.core.settings import load_settings

KEYS = ("sk-ant-configured-key", "bearer-key-of-the-server", "key-of-another-provider")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path, form: Literal["console", "json"]
) -> str:
    """Log everything that is hostile, in every way there is."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEYS[0])
    monkeypatch.setenv("GOOGLE_API_KEY", KEYS[2])
    configure_logs(load_settings(home=home, api_keys=[KEYS[1]], log_format=form, log_level="debug"))
    hostile = f"x\x1b[2J\x9b31m\r\n\u202e{' '.join(KEYS)}"
    log = structlog.get_logger("test")
    log.warning("happened", path=hostile)
    logging.getLogger("library").warning("said %s", hostile)
    try:
        local = KEYS[0]
        raise ValueError(hostile if local else "")
    except ValueError:
        log.exception("broke", url=hostile)
        logging.getLogger("library").exception("broke")
    return capsys.readouterr().err


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_key_and_no_control_character_is_logged(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    form: Literal["console", "json"],
) -> None:
    text = written(capsys, monkeypatch, tmp_path, form)
    assert text.count("broke") == 2
    assert "ValueError" in text
    assert not [key for key in KEYS if key in text]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)


def test_json_lines_stay_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = [line for line in written(capsys, monkeypatch, tmp_path, "json").splitlines() if line.startswith("{")]
    assert [json.loads(line)["event"] for line in lines] == ["happened", "broke"]


def test_a_library_message_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure_logs(load_settings(home=tmp_path))
    logging.getLogger("library").warning("one\nERROR forged two")
    assert len(capsys.readouterr().err.splitlines()) == 1
