from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.tools.citations import MAX_QUOTE, locate

TEXT = (
    "The programme began in 2019.\n\nRevenue rose by 50.5 % to €1,250 million — “far above\nplan”, the board said. "
    "It’s a well-known case. Café owners agreed … in part. 电池的成本下降了百分之四十。"
)


@pytest.mark.parametrize(
    ("quote", "shown"),
    [
        ("The programme began in 2019.", "The programme began in 2019."),
        ("began   in\n2019", "began in 2019"),
        ('"far above plan", the board said', "“far above plan”, the board said"),
        ("million - “far above", "million — “far above"),
        ("It's a well-known case", "It’s a well-known case"),
        ("well‑known case", "well-known case"),
        ("“The programme began in 2019.”", "The programme began in 2019."),
        ("...Revenue rose by 50.5 %...", "Revenue rose by 50.5 %"),
        ("agreed ... in part", "agreed … in part"),
        (unicodedata.normalize("NFD", "Café owners"), "Café owners"),
        ("成本下降了百分之四十", "成本下降了百分之四十"),
        ("soft\u00adly".replace("soft\u00adly", "pro\u00adgramme began"), "programme began"),
    ],
)
def test_a_quote_holds_and_is_shown_in_the_source_s_own_words(quote: str, shown: str) -> None:
    found = locate(TEXT, quote)
    assert found is not None
    assert found.text == shown
    assert " ".join(TEXT[found.offset : found.end].split()) == shown


@pytest.mark.parametrize(
    "quote",
    [
        "",
        "   ",
        "…",
        "“”",
        "the programme began",
        "Revenue fell by 50.5 %",
        "began in 2019 … Revenue",
        "a.*b",
        "(",
        "x" * (MAX_QUOTE + 1),
    ],
)
def test_what_the_source_does_not_say_does_not_hold(quote: str) -> None:
    assert locate(TEXT, quote) is None


@pytest.mark.parametrize(
    ("quote", "shown"),
    [
        ("Revenue rose by 5", "Revenue rose by 50.5"),
        ("rose by 50", "rose by 50.5"),
        (".5 % to", "50.5 % to"),
        ("to €1", "to €1,250"),
        ("gramme began in 20", "programme began in 2019"),
    ],
)
def test_no_word_or_number_is_cut(quote: str, shown: str) -> None:
    found = locate(TEXT, quote)
    assert found is not None
    assert found.text == shown


def test_a_whole_word_is_preferred_to_a_cut_one() -> None:
    found = locate("a party at noon, art at night", "art at")
    assert found is not None
    assert found.offset == 17


@given(st.text(min_size=1, max_size=300), st.data())
def test_every_stretch_of_a_text_holds_and_stays_within_it(text: str, data: st.DataObject) -> None:
    text = unicodedata.normalize("NFC", text)
    start = data.draw(st.integers(0, len(text) - 1))
    quote = text[start : data.draw(st.integers(start + 1, len(text)))]
    found = locate(text, quote)
    if found is None:
        # Only what has no word in it, or what composing or dropping invisible letters changes.
        plain = unicodedata.normalize("NFC", quote)
        assert (
            not any(c.isalnum() for c in quote)
            or plain != quote
            or any(c in "\u00ad\u200b\u2060\ufeff" for c in quote)
        )
    else:
        assert found.text == " ".join(text[found.offset : found.end].split())


@given(st.text(max_size=200), st.text(max_size=60))
def test_nothing_is_ever_found_that_is_not_there(text: str, quote: str) -> None:
    found = locate(text, quote)
    assert found is None or found.text in " ".join(text.split())


@pytest.mark.parametrize(
    ("unit", "end"),
    [("-", "x"), ("- ", "x"), ("'a", "x"), ("a ", "x"), ("a", "b"), ("….", "x"), ("a \n", "b"), ("a", "a")],
)
def test_hostile_text_is_searched_in_linear_time(unit: str, end: str) -> None:
    # A pattern needs hours for these, with the interpreter's lock held; this test would not come to its end.
    text = unit * (4_000_000 // len(unit))
    quote = unit * ((MAX_QUOTE - 10) // len(unit)) + end
    found = locate(text, quote)
    assert (found is not None) == (end == unit)


@given(st.text(alphabet="ab1.,…  \n\t\"“'’-–\u00ad", max_size=60), st.data())
def test_any_piece_of_a_text_is_found_in_it(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    piece = text[start:end]
    if "\u00ad" in piece or not any(letter.isalnum() for letter in piece):
        return
    found = locate(text, piece)
    assert found is not None
    assert found.text == " ".join(text[found.offset : found.end].split())
