"""A file's bytes: what they are (by content, never by name), and in which encoding if they are text."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import charset_normalizer

from .errors import TableError

HEAD = 256 * 1024
_BLOCK = 1 << 20

# The first bytes of things that are no table. Text has none of these.
_SIGNATURES = {
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"\x7fELF": "a program",
    b"MZ\x90": "a program",
    b"SQLite format 3": "an SQLite database",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"Rar!": "a RAR archive",
    b"ARROW1": "an Arrow file",
    b"{\\rtf": "an RTF document",
    b"\x89HDF": "an HDF5 file",
}
_BOMS = [
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
# Legacy encodings worth telling apart; the detector is unsteady on short samples when given all it knows.
_LEGACY = ["cp1252", "cp1250", "cp1251", "cp1253", "cp932", "gb18030", "big5", "euc_jp", "cp949", "koi8_r"]


@dataclass
class Source:
    """A file to be read.

    Attributes:
        path: Where it is.
        head: Its first bytes, unpacked.
        gzipped: Its bytes on disk are gzip.
        kind: `text`, `xlsx` or `parquet`.
        notes: What the user should be told about how it was read.
    """

    path: Path
    head: bytes = b""
    gzipped: bool = False
    kind: str = "text"
    notes: list[str] = field(default_factory=list)

    def open(self) -> IO[bytes]:
        """Open the content, unpacked."""
        return cast(IO[bytes], gzip.open(self.path)) if self.gzipped else self.path.open("rb")

    def open_text(self, encoding: str, errors: str) -> io.TextIOWrapper:
        """Open the content as text, line ends as they are."""
        return io.TextIOWrapper(self.open(), encoding=encoding, errors=errors, newline="")


def inspect(path: str | Path) -> Source:
    """Find out what a file is.

    Raises:
        TableError: It is missing, empty, a directory, unreadable, or nothing that holds a table.
    """
    file = Path(path)
    if file.is_dir():
        raise TableError(f"{file.name or path} is a directory, not a file.")
    if not file.exists():
        raise TableError(f"There is no file {path}.")
    source = Source(file)
    try:
        with file.open("rb") as stream:
            source.gzipped = stream.read(2) == b"\x1f\x8b"
        with source.open() as stream:
            source.head = stream.read(HEAD)
    except (OSError, EOFError, zlib.error) as error:
        what = "is a damaged gzip file" if source.gzipped else f"can't be read ({error})"
        raise TableError(f"{file.name} {what}.") from error
    _classify(source)
    return source


def _classify(source: Source) -> None:
    """Tell the kind of the content; say so where the name promised something else."""
    head, name = source.head, source.path.name
    if not head.strip(b"\x00 \t\r\n\xef\xbb\xbf\xff\xfe"):
        raise TableError(f"{name} is empty.")
    if head[:4] == b"\xd0\xcf\x11\xe0":
        raise TableError(_ole(source))
    if what := _no_table(head):
        raise TableError(f"{name} is {what}, not a table.")
    source.kind = {b"PAR1": "parquet", b"PK\x03\x04": "xlsx"}.get(head[:4], "text")
    if source.kind == "text" and _looks_binary(head):
        raise TableError(f"{name} is a binary file, not a table.")
    if source.kind != "text" and source.gzipped:
        raise TableError(f"{name} is a gzipped {source.kind} file; unpack it first.")
    suffixes = [suffix.lower() for suffix in source.path.suffixes]
    expected = {"xlsx": {".xlsx", ".xlsm"}, "parquet": {".parquet", ".pq"}}.get(source.kind, set())
    if expected and not expected & set(suffixes):
        source.notes.append(f"The content is {source.kind}, whatever the name says; it was read as that.")
    if source.kind == "text" and suffixes and suffixes[-1] in {".xlsx", ".xlsm", ".parquet", ".pq"}:
        source.notes.append("The content is plain text, whatever the name says; it was read as that.")


def _no_table(head: bytes) -> str:
    """Name a kind of file that is recognised and holds no table; empty for all others."""
    text = head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if text.startswith(b"<?xml"):
        return "an XML file"
    return next((what for magic, what in _SIGNATURES.items() if head.startswith(magic)), "")


def _ole(source: Source) -> str:
    """An OLE container is either an encrypted workbook or the Excel format of before 2007."""
    name = source.path.name
    with source.open() as stream:
        content = stream.read(_BLOCK * 8)
    if "EncryptedPackage".encode("utf-16-le") in content:
        return f"{name} is protected by a password; save a copy without one and upload that."
    return f"{name} is in an old Microsoft Office format; save it as .xlsx or CSV and upload that."


def _looks_binary(head: bytes) -> bool:
    if _bom(head) or _wide(head):
        return False
    sample = head[:65536]
    strange = sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in sample)
    return strange / len(sample) > 0.005 or b"\x00" in sample[:4096]


def _bom(head: bytes) -> str:
    return next((encoding for bom, encoding in _BOMS if head.startswith(bom)), "")


def _wide(head: bytes) -> str:
    """Recognise UTF-16 without a byte order mark: every other byte of Latin text is zero, the rest never."""
    sample = head[: min(len(head), 4096) // 2 * 2]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if odd > len(sample) * 0.35 and even == 0:
        return "utf-16-le"
    return "utf-16-be" if even > len(sample) * 0.35 and odd == 0 else ""


def encoding(source: Source) -> tuple[str, str]:
    """Return the encoding of the whole text and how to treat bytes it can't explain.

    Args:
        source: A text file; gets a note where the encoding had to be guessed.

    Raises:
        TableError: The file is damaged.
    """
    if known := _bom(source.head) or _wide(source.head):
        return known, "replace"
    bad, first = _count_bad_utf8(source)
    if not bad:
        return "utf-8", "strict"
    if bad <= 5 and sum(byte >= 0xC2 for byte in source.head) > bad * 20:
        source.notes.append(f"{bad} damaged characters were replaced by “�”.")
        return "utf-8", "replace"
    guess = _european(first) or _detected(first)
    source.notes.append(f"The text is not UTF-8; it was read as {guess}, a guess from its content.")
    return guess, "replace"


def _european(lines: bytes) -> str:
    """Recognise the Latin alphabets by words that are mostly ASCII, with a few accented letters among it.

    Told apart by hand, since a statistical detector needs more text than a column of names offers.
    """
    words = [word for word in re.split(rb"[^A-Za-z\x80-\xff]+", lines) if not word.isascii()]
    accented = sum(byte >= 0x80 for word in words for byte in word)
    if not words or accented > 0.5 * sum(map(len, words)):
        return ""
    text = b" ".join(words).decode("cp1252", "replace")
    if "\ufffd" in text:
        return ""
    central = re.search(r"[a-z][¹³¿]|[¹³¿][a-z]", text) or {"ø", "ì"} <= set(text)
    return "cp1250" if central else "cp1252"


def _detected(lines: bytes) -> str:
    found = charset_normalizer.from_bytes(lines, cp_isolation=_LEGACY, threshold=0.4).best()
    return str(found.encoding) if found else "cp1252"


def _count_bad_utf8(source: Source) -> tuple[int, bytes]:
    """Count the blocks' undecodable spots through the whole file; return with it the lines around the first."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    bad, around = 0, b""
    try:
        for block in _blocks(source):
            spots = 0 if block.isascii() else decoder.decode(block).count("\ufffd")
            if block.isascii():
                decoder.reset()
            if spots and not around:
                around = _non_ascii_lines(block)
            bad += spots
    except (OSError, EOFError, zlib.error) as error:
        raise TableError(f"{source.path.name} is damaged: {error}.") from error
    return bad, around


def _blocks(source: Source) -> Iterator[bytes]:
    with source.open() as stream:
        while block := stream.read(_BLOCK):
            yield block


def _non_ascii_lines(block: bytes) -> bytes:
    """Keep the lines that tell something about the encoding."""
    return b"\n".join([line for line in block.splitlines() if not line.isascii()][:400])
