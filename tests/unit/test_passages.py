from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.tools.passages import search_passages, split_passages

DOCUMENTS = (
    ("S1", "Batteries cost less each year. The price per kilowatt hour fell.\n\n" + "Filler words here. " * 200),
    ("S2", "Die Lebensdauer der Batterie beträgt zwölf Jahre. Größe und Straße bleiben gleich."),
    ("S3", "电池的成本下降了百分之四十。寿命为十二年。"),
    ("S4", "हिन्दी में बैटरी की कीमत कम हुई। Цена батареи снизилась. Ελληνικό κείμενο."),
)


def found(query: str, limit: int = 5) -> list[str]:
    return [passage.source for passage in search_passages(DOCUMENTS, query, limit)]


@pytest.mark.parametrize(
    ("query", "source"),
    [
        ("battery price", "S1"),
        ("PRICE", "S1"),
        ("Batterien Lebensdauer", "S2"),
        ("grosse zwolf", "S2"),
        ("电池成本", "S3"),
        ("寿命", "S3"),
        ("बैटरी", "S4"),
        ("цены батарей", "S4"),
        ("ελληνικο", "S4"),
    ],
)
def test_words_are_found_in_any_script_and_inflection(query: str, source: str) -> None:
    assert found(query)[0] == source


@pytest.mark.parametrize("query", ["", "  ", '"', "''\"*", "NEAR(", "- - -", "zzzz"])
def test_a_query_without_known_words_finds_nothing(query: str) -> None:
    assert found(query) == []


@pytest.mark.parametrize(
    "query", ['price" OR "', "price NOT cost", "price AND (", "text:price", "price*", "^price", "{price}"]
)
def test_operators_are_only_words(query: str) -> None:
    assert found(query)[0] == "S1"


def test_the_limit_holds_and_passages_are_verbatim() -> None:
    passages = search_passages(DOCUMENTS, "filler", 3)
    assert len(passages) == 3
    text = dict(DOCUMENTS)["S1"]
    assert all(text[p.start :].startswith(p.text) for p in passages)


@given(st.text(max_size=80))
def test_no_query_breaks_the_search(query: str) -> None:
    found(query)


@given(st.text(alphabet=st.sampled_from("ab .\n。é電"), max_size=5000))
def test_passages_cover_the_text_in_order_without_overlap(text: str) -> None:
    spans = split_passages(text)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text.split())
    assert all(0 < b - a <= 800 for a, b in spans)


def test_passages_end_at_sentences_where_they_can() -> None:
    text = "This sentence is here to be kept whole. " * 100
    spans = split_passages(text)
    assert all(text[b - 1] == "." for _, b in spans)
    assert all(b - a > 400 for a, b in spans[:-1])


def test_one_source_does_not_crowd_out_the_others() -> None:
    many = "".join(f"Turbine test number {n}: the turbine ran well. " + "Filler goes here. " * 30 for n in range(30))
    documents = (("S1", many), ("S2", "Another paper mentions a turbine once, among very many other things it says."))
    found = search_passages(documents, "turbine", 4)
    assert [p.source for p in found].count("S1") == 3
    assert {p.source for p in found} == {"S1", "S2"}
    assert len(search_passages((("S1", "A turbine is here.\n\n" * 200),), "turbine", 8)) <= 2
