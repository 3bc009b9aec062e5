"""Search over the stored sources: passages of some 600 characters, ranked by BM25 in SQLite's FTS5.

Words are matched whatever their accents and case, and by their beginnings, which serves inflected languages without a
stemmer each. Scripts written without spaces are indexed character by character and searched by pairs.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from threading import Lock

TARGET = 600
_SHORTEST, _LONGEST = 250, 800
_TERMS = 40
_LOOKED_AT = 1000
_TOKENIZER = "unicode61 remove_diacritics 2 categories 'L* N* M* Co'"
_PREFIX_FROM, _STEM_FROM = 4, 6
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_LONE = re.compile(f"([{_UNSPACED}])")
_BREAKS = [re.compile(r"\n\s*\n"), re.compile(r"[.!?…][\"”’»)\]]*\s|[。！？]"), re.compile(r"\n"), re.compile(r"\s")]
_LOCK = Lock()


@dataclass(frozen=True)
class Passage:
    """A piece of a source, verbatim.

    Attributes:
        source: The source's id.
        start: Where it begins in the source's text.
        text: The source's own text from there.
    """

    source: str
    start: int
    text: str


def split_passages(text: str) -> list[tuple[int, int]]:
    """Cut a text into passages, at paragraphs or sentences where it can; returns start and end of each."""
    spans: list[tuple[int, int]] = []
    start = 0
    while start < len(text):
        end = _end_of_passage(text, start)
        piece = text[start:end]
        left, right = len(piece) - len(piece.lstrip()), len(piece.rstrip())
        if left < right:
            spans.append((start + left, start + right))
        start = end
    return spans


def _end_of_passage(text: str, start: int) -> int:
    if len(text) - start <= _LONGEST:
        return len(text)
    window = text[start + _SHORTEST : start + _LONGEST]
    for pattern in _BREAKS:
        ends = [found.end() for found in pattern.finditer(window)]
        if ends:
            return start + _SHORTEST + min(ends, key=lambda end: abs(_SHORTEST + end - TARGET))
    return start + TARGET


def terms_of(query: str) -> list[str]:
    """Return the words of a query, folded to lower case; nothing in it is an operator."""
    groups = groupby(unicodedata.normalize("NFC", query).lower(), key=_letter_class)
    return list(dict.fromkeys("".join(letters) for kind, letters in groups if kind))[:_TERMS]


def _letter_class(letter: str) -> str:
    if _LONE.match(letter):
        return "lone"
    return "word" if unicodedata.category(letter)[0] in "LNM" else ""


def _expression(terms: list[str]) -> str:
    """Return an FTS5 expression in which every term stands quoted."""
    parts: list[str] = []
    for term in terms:
        if _LONE.match(term):
            parts += [f'"{_spaced(term[at : at + 2])}"' for at in range(max(1, len(term) - 1))]
            continue
        parts.append(f'"{term}"')
        if len(term) >= _PREFIX_FROM:
            parts.append(f'"{term[:-2] if len(term) >= _STEM_FROM else term}"*')
    return " OR ".join(parts)


def _spaced(text: str) -> str:
    return _LONE.sub(r" \1 ", text)


@lru_cache(maxsize=4)
def _database(documents: tuple[tuple[str, str], ...]) -> tuple[sqlite3.Connection, list[Passage]]:
    """Index documents, given as id and text; the texts are the key, so a stale index can't be met."""
    passages = [
        Passage(source, start, text[start:end]) for source, text in documents for start, end in split_passages(text)
    ]
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute(f'CREATE VIRTUAL TABLE passages USING fts5(text, tokenize = "{_TOKENIZER}")')
    rows = ((number, _spaced(passage.text)) for number, passage in enumerate(passages))
    database.executemany("INSERT INTO passages(rowid, text) VALUES (?, ?)", rows)
    return database, passages


def search_passages(documents: tuple[tuple[str, str], ...], query: str, limit: int) -> list[Passage]:
    """Return the passages that fit a query best, best first; no source takes more than half if others fit too.

    Args:
        documents: Id and text of each source.
        query: Any text; quotes and operators in it mean nothing.
        limit: Passages to return at most.
    """
    terms = terms_of(query)
    if not terms:
        return []
    with _LOCK:  # one connection serves one thread at a time
        database, passages = _database(documents)
        rows = database.execute(
            "SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY bm25(passages), rowid LIMIT ?",
            (_expression(terms), _LOOKED_AT),
        ).fetchall()
    return _shared_out([passages[number] for (number,) in rows], limit)


def _shared_out(ranked: list[Passage], limit: int) -> list[Passage]:
    """Take the first passages, none twice, leaving half of the room to sources that rank lower."""
    distinct = list({passage.text: passage for passage in reversed(ranked)}.values())[::-1]
    taken: Counter[str] = Counter()
    first: list[Passage] = []
    later: list[Passage] = []
    for passage in distinct:
        taken[passage.source] += 1
        (first if taken[passage.source] <= (limit + 1) // 2 else later).append(passage)
    kept = set((first + later)[:limit])
    return [passage for passage in distinct if passage in kept]
