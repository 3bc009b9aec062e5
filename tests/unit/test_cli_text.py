from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.cli.stream import MarkdownStream
from orchestrion.cli.table import table
from orchestrion.cli.text import ago, clean, one_line, seconds, size, tail


def streamed(pieces: list[str], **options: object) -> str:
    out: list[str] = []
    stream = MarkdownStream(out.append, **options)  # type: ignore[arg-type]
    for piece in pieces:
        stream.feed(piece)
    stream.close()
    return "".join(out)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x08\x7f\x9bb", "ab"),
        ("50 %\r100 %\r\n", "50 %\n100 %\n"),
        ("safe\u202etxt.exe", "safetxt.exe"),
        ("naïve 数据\tok\n", "naïve 数据\tok\n"),
        ("\udc80", "?"),
    ],
)
def test_clean(raw: str, shown: str) -> None:
    assert clean(raw) == shown


@given(st.text())
def test_nothing_that_steers_a_terminal_gets_through(raw: str) -> None:
    shown = clean(raw)
    assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in shown)
    assert not any(0x7F <= ord(letter) <= 0x9F for letter in shown)


@given(st.text(), st.integers(1, 50))
def test_one_line_keeps_to_its_limit(raw: str, limit: int) -> None:
    shown = one_line(raw, limit)
    assert len(shown) <= limit
    assert "\n" not in shown


def test_sizes_and_times() -> None:
    assert [size(0), size(999), size(1234), size(200_000_000)] == ["0 B", "999 B", "1.2 kB", "200.0 MB"]
    assert [seconds(0.25), seconds(61), seconds(3700)] == ["0.2 s", "1 min 1 s", "1 h 1 min"]
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert ago(now, now) == "just now"
    assert ago(now - timedelta(minutes=5), now) == "5 min ago"
    assert ago(now + timedelta(minutes=5), now) == "just now"


def test_tail_counts_what_it_leaves_out() -> None:
    assert tail("a\n\nb\nc\n", 2) == (["b", "c"], 1)
    assert tail("", 2) == ([], 0)


words = st.lists(st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=12), max_size=40)


@given(words, st.data())
def test_without_a_width_a_stream_changes_nothing(parts: list[str], data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([" ", "\n", "  \n\t"])).join(parts).strip()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert streamed(pieces).rstrip("\n") == text


@given(words, st.integers(25, 60), st.integers(1, 9))
def test_a_width_breaks_lines_between_words_and_loses_none(parts: list[str], width: int, step: int) -> None:
    text = " ".join(["word", *[part.strip("`|") or "x" for part in parts]])
    shown = streamed([text[i : i + step] for i in range(0, len(text), step)], width=width)
    assert shown.split() == text.split()
    assert all(len(line) <= width for line in shown.splitlines())


def test_the_first_piece_is_not_held_back() -> None:
    out: list[str] = []
    MarkdownStream(out.append, width=80, styled=True).feed("Hel")
    assert out == ["Hel"]


@pytest.mark.parametrize("step", [1, 2, 5, 100])
def test_emphasis_and_headings(step: int) -> None:
    text = "# Title\nIt is **very big** news: 2**3, `a*b`.\n"
    shown = streamed([text[i : i + step] for i in range(0, len(text), step)], width=80, styled=True)
    plain = shown.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert plain == "Title\nIt is very big news: 2**3, `a*b`.\n"
    assert "\x1b[1mTitle\x1b[0m" in shown if step > 5 else "\x1b[1m" in shown
    assert "\x1b[1mbig\x1b[0m" in shown or step < 5
    assert "\x1b[1mnews" not in shown


def test_lists_hang_and_code_is_left_alone() -> None:
    text = "- " + "word " * 12 + "\n```\n" + "x = 1    # " + "y" * 60 + "\n```\n"
    shown = streamed([text], width=40)
    assert "\n  word" in shown
    assert "x = 1    # " + "y" * 60 in shown


def test_tables_fit_a_terminal_and_are_whole_without_one() -> None:
    rows = [("ID", "GOAL"), ("run_1", "数据 " * 20)]
    assert all(len(line) <= 30 for line in table(rows, 30))
    assert table(rows, None)[1].endswith("数据")


def test_lines_for_the_model_are_not_shown() -> None:
    assert tail('seen\n@@profile {"rows": 3}\nseen too\n', 5) == (["seen", "seen too"], 0)
