"""Text of a PDF, page by page; where each page begins is kept beside the text, never in it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, BinaryIO

from .kinds import Unreadable
from .plain import clean

if TYPE_CHECKING:
    from pypdf import PdfReader

MAX_PAGES = 2000
SECONDS = 40.0
"""After so long the rest of the pages is left out and said so."""


def read_pdf(file: BinaryIO, name: str, limit: int) -> tuple[str, str, list[tuple[int, int]], list[str]]:
    """Return the title, the text, where each page with text begins as (page, offset), and notes.

    Args:
        file: The PDF.
        name: Its name, for the sentence.
        limit: Characters to stop at.

    Raises:
        Unreadable: It is damaged, protected, or has no text.
    """
    from pypdf.errors import DependencyError, PyPdfError

    try:
        return _read(file, name, limit)
    except Unreadable:
        raise
    except DependencyError as error:
        raise Unreadable(f"{name} is protected in a way that can't be read here.") from error
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        raise Unreadable(f"{name} is a damaged PDF: {type(error).__name__}.") from error
    except RecursionError as error:
        raise Unreadable(f"{name} is a damaged PDF: it refers to itself.") from error


def _read(file: BinaryIO, name: str, limit: int) -> tuple[str, str, list[tuple[int, int]], list[str]]:
    from pypdf import PasswordType, PdfReader

    reader = PdfReader(file, strict=False)
    if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
        raise Unreadable(f"{name} is protected by a password; remove the protection and upload it again.")
    count = len(reader.pages)
    if count == 0:
        raise Unreadable(f"{name} is a PDF without pages.")
    text, starts, silent, notes = _pages(reader, count, limit)
    if sum(letter.isalnum() for letter in text[:10_000]) < 3:
        pages = "one page" if count == 1 else f"{count} pages"
        raise Unreadable(f"{name} has {pages} but no text: it is probably a scan; run text recognition on it first.")
    if silent:
        notes.append(f"{silent} of {count} pages have no text, they are probably pictures.")
    return _title(reader), text, starts, notes


def _pages(reader: PdfReader, count: int, limit: int) -> tuple[str, list[tuple[int, int]], int, list[str]]:
    parts: list[str] = []
    starts: list[tuple[int, int]] = []
    notes: list[str] = []
    length, silent, end = 0, 0, time.monotonic() + SECONDS
    for number in range(1, min(count, MAX_PAGES) + 1):
        if length > limit or time.monotonic() > end:
            notes.append(f"Only the first {number - 1} of {count} pages were read.")
            break
        page = _page(reader, number, notes)
        if not page:
            silent += 1
            continue
        starts.append((number, length))
        parts.append(page)
        length += len(page) + 2
    else:
        if count > MAX_PAGES:
            notes.append(f"Only the first {MAX_PAGES} of {count} pages were read.")
    return "\n\n".join(parts), starts, silent, notes


def _page(reader: PdfReader, number: int, notes: list[str]) -> str:
    """Return a page's text; a page that breaks the parser costs that page, not the document."""
    try:
        return clean(str(reader.pages[number - 1].extract_text()))
    except MemoryError:
        raise
    except Exception as error:
        notes.append(f"Page {number} can't be read: {type(error).__name__}.")
        return ""


def _title(reader: PdfReader) -> str:
    try:
        return str(getattr(getattr(reader, "metadata", None), "title", "") or "").strip()
    except Exception:
        return ""
