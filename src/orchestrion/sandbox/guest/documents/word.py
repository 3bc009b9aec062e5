"""Text of a Word document: paragraphs, tables row by row, insertions, text boxes and notes, in reading order."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from .kinds import Unreadable

MAX_UNPACKED = 256 * 1024 * 1024
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_TITLE = "{http://purl.org/dc/elements/1.1/}title"
_SKIPPED = {
    f"{_W}del",
    f"{_W}moveFrom",
    f"{_W}pPr",
    f"{_W}rPr",
    f"{_W}tblPr",
    "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback",
}
_BREAKS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}


def read_docx(file: BinaryIO, name: str) -> tuple[str, str]:
    """Return the title and the text.

    Raises:
        Unreadable: It is damaged, has no text, or unpacks to more than `MAX_UNPACKED` bytes.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(part.file_size for part in archive.infolist()) > MAX_UNPACKED:
                raise Unreadable(f"{name} unpacks to more than {MAX_UNPACKED // 2**20} MiB; it is not read.")
            body = _blocks(_xml(archive, "word/document.xml"))
            blocks = [*body, *_notes(archive)]
            title = _title(archive)
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, EOFError, RuntimeError, NotImplementedError) as error:
        raise Unreadable(f"{name} is a damaged Word document.") from error
    text = "\n\n".join(block for block in blocks if block.strip())
    if not text:
        raise Unreadable(f"{name} is a Word document without text.")
    return title, text


def _xml(archive: zipfile.ZipFile, member: str) -> Any:
    etree = importlib.import_module("lxml.etree")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        return etree.fromstring(archive.read(member), parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"{member} is not well-formed") from error


def _blocks(root: Any) -> list[str]:
    """Return paragraphs and tables as text; a table is one block with a line for each row."""
    blocks: list[str] = []
    for child in root:
        if child.tag == f"{_W}p":
            blocks.append("".join(_runs(child)).strip())
        elif child.tag == f"{_W}tbl":
            blocks.append("\n".join(_row(row) for row in child.iter(f"{_W}tr") if _owner(row) is child))
        elif child.tag not in _SKIPPED and isinstance(child.tag, str):
            blocks.extend(_blocks(child))
    return blocks


def _owner(row: Any) -> Any:
    """Return the table that a row belongs to, past content controls and tracked changes."""
    return next(row.iterancestors(f"{_W}tbl"))


def _row(row: Any) -> str:
    cells = (cell for cell in row.iter(f"{_W}tc") if next(cell.iterancestors(f"{_W}tr")) is row)
    return " | ".join(" ".join(" ".join(_blocks(cell)).split()) for cell in cells)


def _runs(node: Any) -> Iterator[str]:
    for child in node:
        if child.tag == f"{_W}t":
            yield child.text or ""
        elif child.tag in _BREAKS:
            yield _BREAKS[child.tag]
        elif child.tag == f"{_W}p":  # a text box inside a paragraph
            yield "\n"
            yield from _runs(child)
        elif child.tag not in _SKIPPED:
            yield from _runs(child)


def _notes(archive: zipfile.ZipFile) -> list[str]:
    members = [part for part in ("word/footnotes.xml", "word/endnotes.xml") if part in archive.namelist()]
    return [block for part in members for block in _blocks(_xml(archive, part))]


def _title(archive: zipfile.ZipFile) -> str:
    if "docProps/core.xml" not in archive.namelist():
        return ""
    found = _xml(archive, "docProps/core.xml").find(f".//{_TITLE}")
    return (found.text or "").strip() if found is not None else ""
