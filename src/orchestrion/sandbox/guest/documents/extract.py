"""One document to text, whatever kind it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypedDict

from .kinds import HEAD, Unreadable, kind_of
from .pdf import read_pdf
from .plain import clean, declared_in, decode
from .web import read_html
from .word import read_docx

MAX_CHARACTERS = 2_000_000
MAX_BYTES = 8_000_000
"""Bytes of a text file that are read at most."""

_PROGRAM_PREFIX = re.compile(r"^Microsoft (?:Word|PowerPoint) - ")
_NO_TITLES = {"untitled", "untitled document", "unbenannt", "sans titre", "word document", "powerpoint presentation"}
_HEADING = re.compile(r"^#{1,2}\s+(.+?)\s*#*$", re.MULTILINE)


class Page(TypedDict):
    """Where a page begins: its number, from 1, and the offset in `text`."""

    page: int
    start: int


class Extracted(TypedDict):
    """A document as text.

    Keys: `title`; `text`; `pages`, where each begins (PDF only); `kind`, one of txt, md, html, pdf, docx, csv, json;
    `characters`, the length of `text`; `notes`, sentences on what was left out or guessed.
    """

    title: str
    text: str
    pages: list[Page]
    kind: str
    characters: int
    notes: list[str]


def extract(path: str | Path, *, name: str | None = None, charset: str | None = None) -> Extracted:
    """Return a document's text.

    Args:
        path: The file.
        name: What to call it in sentences; its own name if not given.
        charset: The encoding that its server declared, if one did.

    Raises:
        Unreadable: It can't be read; the sentence says why and what to do.
    """
    path = Path(path)
    name = name or path.name
    try:
        return _extract(path, name, charset)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise Unreadable(f"There is no file {name}.") from error
    except PermissionError as error:
        raise Unreadable(f"{name} may not be read.") from error
    except MemoryError as error:
        raise Unreadable(f"{name} needs more memory than there is to be read.") from error


def _extract(path: Path, name: str, charset: str | None) -> Extracted:
    pages: list[tuple[int, int]] = []
    notes: list[str] = []
    with path.open("rb") as file:
        kind = kind_of(file, name)
        if kind == "pdf":
            title, text, pages, notes = read_pdf(file, name, MAX_CHARACTERS)
        elif kind == "docx":
            title, text = read_docx(file, name)
        else:
            title, text, notes = _read_text(file.read(MAX_BYTES + 1), name, kind, charset)
    return _bounded(_given_title(title) or Path(name).stem, text if pages else clean(text), pages, kind, notes)


def _read_text(data: bytes, name: str, kind: str, charset: str | None) -> tuple[str, str, list[str]]:
    cut = len(data) > MAX_BYTES
    declared = charset or (declared_in(data[:HEAD]) if kind == "html" else None)
    text, notes = decode(data[:MAX_BYTES], name, declared=declared, cut=cut)
    if cut:
        notes.append(f"Only the first {MAX_BYTES // 1_000_000} MB were read.")
    if kind == "html":
        title, text, more = read_html(text, name)
        return title, text, notes + more
    heading = _HEADING.search(text[:HEAD]) if kind == "md" else None
    return (heading.group(1) if heading else ""), text, notes


def _given_title(title: str) -> str:
    """Return a title that a person gave; programs leave others behind."""
    title = _PROGRAM_PREFIX.sub("", title.strip())
    return "" if title.lower() in _NO_TITLES else title


def _bounded(title: str, text: str, pages: list[tuple[int, int]], kind: str, notes: list[str]) -> Extracted:
    if not text.strip():
        raise Unreadable(f"{title} has no text.")
    if len(text) > MAX_CHARACTERS:
        text = text[:MAX_CHARACTERS]
        notes.append(f"Only the first {MAX_CHARACTERS:,} characters are here.")
    return Extracted(
        title=" ".join(clean(title).split())[:300],
        text=text,
        pages=[Page(page=page, start=start) for page, start in pages if start < len(text)],
        kind=kind,
        characters=len(text),
        notes=notes,
    )
