"""What a cell's values become on the wire, and what is not Python in a cell."""

from __future__ import annotations

import base64
import datetime
import enum
import math
from pathlib import Path

import pytest

from orchestrion.sandbox.guest.guestd import notebook
from orchestrion.sandbox.guest.guestd.display import MAX_TEXT, bundle_of, result_of
from orchestrion.sandbox.guest.guestd.magics import Magic, UnsupportedMagic, translated
from orchestrion.sandbox.guest.guestd.traces import error_of


class Picture:
    def _repr_png_(self) -> bytes:
        return b"\x89PNG"

    def _repr_html_(self) -> str:
        return "<img>"

    def _repr_latex_(self) -> str:
        raise ValueError("not now")


class Everything:
    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict[str, object], object]:
        return {"text/markdown": "**x**", "application/vnd.own": {"a": 1}}, {}


class Colour(enum.Enum):
    RED = "red"


def result(value: object) -> dict[str, object]:
    return result_of(bundle_of(value), main=True)


def test_a_text_loses_the_quotes_of_its_repr() -> None:
    assert result("it's")["text"] == "it's"
    assert result(12)["text"] == "12"


def test_lists_and_dictionaries_come_as_json_too() -> None:
    given = {"a": [1, 2.5, math.nan, None], 3: (Colour.RED, datetime.date(2026, 1, 2))}
    assert result(given)["json"] == {"a": [1, 2.5, None, None], "3": ["red", "2026-01-02"]}


@pytest.mark.parametrize("value", [[object()], [{"a": {1, 2}}]])
def test_what_json_has_no_word_for_stays_text(value: object) -> None:
    assert "json" not in result(value)
    assert result(value)["text"]


def test_a_list_that_holds_itself_is_only_text() -> None:
    own: list[object] = []
    own.append(own)
    assert "json" not in result(own)


def test_values_show_themselves_as_notebooks_have_it() -> None:
    shown = result(Picture())
    assert shown["png"] == base64.b64encode(b"\x89PNG").decode()
    assert shown["html"] == "<img>"
    assert "latex" not in shown


def test_a_bundle_of_their_own_keeps_foreign_types_as_extra() -> None:
    shown = result(Everything())
    assert shown["markdown"] == "**x**"
    assert shown["extra"] == {"application/vnd.own": {"a": 1}}


def test_a_class_is_not_shown_as_its_instances_are() -> None:
    assert set(result(Picture)) == {"type", "is_main_result", "text", "extra"}


def test_long_texts_are_cut_and_big_documents_left_out() -> None:
    cut = result_of({"text/plain": "x" * (MAX_TEXT + 10), "text/html": "y" * (MAX_TEXT + 10)}, main=False)
    assert "10 characters left out" in str(cut["text"])
    assert "html" not in cut


def test_an_exit_without_a_status_is_no_error() -> None:
    assert error_of(SystemExit()) is None
    assert error_of(SystemExit(3)) is not None


def test_an_error_whose_text_fails_is_still_told() -> None:
    class Bad(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    told = error_of(Bad())
    assert told is not None
    assert told["name"] == "Bad"


TRANSLATIONS = [
    ("!ls -l", "__magic__.shell('ls -l')"),
    ("x = !ls", "x = __magic__.lines('ls')"),
    ("%cd /tmp", "__magic__.line('cd', '/tmp')"),
    ("y = %pwd", "y = __magic__.line('pwd', '')"),
    ("if True:\n    !a \\\n  b\nz", "if True:\n    __magic__.shell('a   b')\n\nz"),
    ("%%bash -e\necho 1\n!x", "__magic__.cell('bash', '-e', 'echo 1\\n!x')"),
]
UNTOUCHED = [
    "s = '''\n!no\n%no\n'''",
    "x = (5\n% 3)",
    "x = 5 \\\n% 3",
    "a != b",
    "x %= 3",
    "'a' # '''\nb % c",
    "f(1,\n  '%d'\n  % 3)",
]


@pytest.mark.parametrize(("source", "python"), TRANSLATIONS)
def test_what_only_notebooks_know_becomes_python(source: str, python: str) -> None:
    assert translated(source) == python


@pytest.mark.parametrize("source", UNTOUCHED)
def test_python_stays_as_it_is(source: str) -> None:
    assert translated(source) == source


def test_an_unknown_magic_names_those_there_are() -> None:
    with pytest.raises(UnsupportedMagic, match=r"%nope is not supported here.*%pip.*%%bash"):
        Magic({}, eval).line("nope", "")


def test_a_commands_lines_and_variables() -> None:
    magic = Magic({"name": "a b", "parts": [1]}, eval)
    assert magic.lines("echo '$name' {parts[0] + 1} ${HOME:+home} {1,2}") == ["a b 2 home 1 2"]


def test_matplotlib_finds_the_list_of_fonts_that_was_made_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds, place = tmp_path / "seeds", tmp_path / "config"
    seeds.mkdir()
    (seeds / "fontlist-v1.json").write_text("{}")
    monkeypatch.setattr(notebook, "_SEEDS", str(seeds))
    monkeypatch.setenv("MPLCONFIGDIR", str(place))
    notebook._seed_fonts()
    (place / "fontlist-v1.json").write_text("own")
    notebook._seed_fonts()
    assert (place / "fontlist-v1.json").read_text() == "own"
