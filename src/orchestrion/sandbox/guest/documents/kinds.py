"""What kind of document some bytes are: told by the content first, by the name only where content can't tell."""

from __future__ import annotations

import re
import zipfile
from pathlib import PurePath
from typing import BinaryIO

HEAD = 8192
"""Bytes looked at to tell a kind."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_TEXT_NAMES = {
    ".md": "md",
    ".markdown": "md",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
_HTML_NAMES = {".html", ".htm", ".xhtml"}
_HTML_START = re.compile(rb"<(!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_FOREIGN = [
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"II*\x00", "a picture"),
    (b"MM\x00*", "a picture"),
    (b"PAR1", "a Parquet table, which data analysis can read"),
    (b"SQLite format 3", "a database"),
    (b"{\\rtf", "an RTF file; save it as .docx or .pdf"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"ID3", "a sound file"),
    (b"OggS", "a sound or film file"),
    (b"RIFF", "a sound, film or picture file"),
]
_ZIP_KINDS = [
    ("xl/workbook", "a spreadsheet, which data analysis can read"),
    ("ppt/", "a presentation; save it as .pdf"),
    ("META-INF/container.xml", "an e-book; save it as .pdf or .html"),
    ("content.xml", "an OpenDocument file; save it as .docx or .pdf"),
]


class Unreadable(Exception):
    """A document that can't be read; its text is one sentence for the user."""


def kind_of(file: BinaryIO, name: str) -> str:
    """Return `pdf`, `docx`, `html`, `md`, `csv`, `json` or `txt`.

    Args:
        file: Open for reading in binary; its position is back at the start afterwards.
        name: The file's name.

    Raises:
        Unreadable: It is empty, or nothing that has text in it.
    """
    head = file.read(HEAD)
    file.seek(0)
    if not head.strip():
        raise Unreadable(f"{name} is empty.")
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(file, name)
    if head.startswith(_OLE):
        raise Unreadable(_ole_sentence(file, name))
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            raise Unreadable(f"{name} is not a text document: it is {what}.")
    return _text_kind(head, PurePath(name).suffix.lower())


def _text_kind(head: bytes, suffix: str) -> str:
    if suffix in _TEXT_NAMES:
        return _TEXT_NAMES[suffix]
    plain = head.replace(b"\0", b"")
    if suffix in _HTML_NAMES or (suffix != ".txt" and _HTML_START.search(plain[:2048])):
        return "html"
    return "txt"


def _zip_kind(file: BinaryIO, name: str) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise Unreadable(f"{name} is damaged: its archive can't be opened.") from error
    finally:
        file.seek(0)
    if "word/document.xml" in members:
        return "docx"
    for part, what in _ZIP_KINDS:
        if any(member.startswith(part) for member in members):
            raise Unreadable(f"{name} is not a text document: it is {what}.")
    raise Unreadable(f"{name} is a zip archive; unpack it first.")


def _ole_sentence(file: BinaryIO, name: str) -> str:
    """An OLE container is either an encrypted Office document or one of the formats from before 2007."""
    data = file.read(4_000_000)
    file.seek(0)
    if "EncryptedPackage".encode("utf-16-le") in data:
        return f"{name} is protected by a password; remove the protection and upload it again."
    return f"{name} is in an Office format from before 2007; save it as .docx or .pdf."
