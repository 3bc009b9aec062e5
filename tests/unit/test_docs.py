"""The documentation: its references agree with the code, its links lead somewhere, its examples parse."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
# Filled in once the page can be photographed; everything else that is linked must be there.
_PICTURES = {"docs/images/page.png"}


def _reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module
    spec.loader.exec_module(module)
    return module


REFERENCE = _reference()


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("name", REFERENCE.PAGES)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    written = (ROOT / "docs" / "reference" / f"{name}.md").read_text()
    assert written == REFERENCE.PAGES[name](), "run `make reference`"


def test_the_reference_names_every_setting_and_event() -> None:
    from orchestrion.core.events import Event
    from orchestrion.core.settings import Settings, environment_name

    settings = (ROOT / "docs" / "reference" / "settings.md").read_text()
    assert all(f"| `{environment_name(field)}` |" in settings for field in Settings.model_fields)
    events = (ROOT / "docs" / "reference" / "events.md").read_text()
    written = re.findall(r"^## `([\w.]+)`$", events, flags=re.MULTILINE)
    assert written == [kind.model_fields["type"].default for kind in get_args(get_args(Event)[0])]


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_links_lead_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text())
    for target in _LINK.findall(text):
        if "://" in target or target.startswith(("#", "mailto:")):
            continue
        there = (page.parent / target.partition("#")[0]).resolve()
        assert there.exists() or _id(there) in _PICTURES, target


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_examples_parse(page: Path) -> None:
    for language, block in _FENCE.findall(page.read_text()):
        if language == "python":
            ast.parse(block)
        if language == "console":
            assert block.startswith("$ "), block


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_pages_name_make_targets_that_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", page.read_text()))
    assert named <= targets


def test_the_readme_names_no_command_that_is_not_there() -> None:
    commands = set(re.findall(r"^## `orchestrion ([\w ]+)`$", REFERENCE.cli(), flags=re.MULTILINE))
    for page in PAGES:
        for block in re.findall(
            r"(?:^\$ |`|^)(?:\.venv/bin/)?orchestrion ([a-z]+(?: [a-z]+)?)", page.read_text(), flags=re.M
        ):
            first, *_ = block.split()
            assert any(command.split()[0] == first for command in commands), f"{_id(page)}: orchestrion {block}"
