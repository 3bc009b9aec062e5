"""The lists of E2B's tests that fail here: short, explained, and compared both ways."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
LISTS = ROOT / "tests" / "conformance" / "e2b"


@pytest.fixture
def results() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "scripts" / "conformance"))
    yield importlib.import_module("results")
    sys.path.remove(str(ROOT / "scripts" / "conformance"))
    for name in ("results", "lab"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("suite", "most"), [("python", 45), ("js", 8)])
def test_the_lists_stay_short(results: ModuleType, suite: str, most: int) -> None:
    assert 0 < len(results.expected(LISTS / f"{suite}.expected_failures.txt")) <= most


def test_a_failure_needs_a_reason(results: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# a comment\nsome::test\n")
    with pytest.raises(ValueError, match="some::test"):
        results.expected(path)


def test_what_is_not_as_expected_fails(results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.expected_failures.txt").write_text("known  # why\nmaybe  # depends on the host: why\n")
    monkeypatch.setattr(results, "_LISTS", tmp_path)
    assert results.compare("x", {"known": "failed", "maybe": "passed", "fine": "passed"})
    assert results.compare("x", {"known": "failed", "maybe": "failed"})
    assert not results.compare("x", {"known": "failed", "maybe": "failed", "new": "failed"})
    assert not results.compare("x", {"known": "passed", "maybe": "failed"})
    assert not results.compare("x", {"maybe": "failed"})
    assert results.compare("x", {"maybe": "failed"}, whole=False)
    assert not results.compare("x", {})
