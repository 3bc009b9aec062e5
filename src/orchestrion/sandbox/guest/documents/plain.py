"""Bytes to characters: byte-order marks, declared and guessed encodings, and what is no text at all."""

from __future__ import annotations

import codecs
import re
import unicodedata

from .kinds import Unreadable

_BOMS = [
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
_GUESSES = [
    *("cp1252", "cp1251", "koi8_r", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256"),
    *("shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"),
]
_SAMPLE = 65_536
_BLANK_LINES = re.compile(r"\n{3,}")
_META_CHARSET = re.compile(rb"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)
_KEPT_CONTROLS = "\n\t"
# Soft hyphens and joints that only typesetting needs, and the ligatures that PDF fonts leave behind.
_DROPPED: dict[int, str | None] = {
    **dict.fromkeys((0x00AD, 0x200B, 0x2060, 0xFEFF)),
    **{0xFB00 + number: letters for number, letters in enumerate(["ff", "fi", "fl", "ffi", "ffl", "st", "st"])},
}


def decode(data: bytes, name: str, *, declared: str | None = None, cut: bool = False) -> tuple[str, list[str]]:
    """Return the text of `data` and notes on how sure that is.

    Args:
        data: The bytes.
        name: The file's name, for the sentence.
        declared: An encoding that a header or the document names; tried after UTF-8.
        cut: The bytes end before the file does, maybe within a character.

    Raises:
        Unreadable: It is not text.
    """
    encoding = _marked(data) or _wide_without_mark(data[:_SAMPLE])
    if encoding is None and b"\0" in data[:_SAMPLE]:
        raise Unreadable(f"{name} is not a text document: it holds binary data.")
    for candidate in [encoding, "utf-8", _known(declared)]:
        text = _strict(data, candidate, cut) if candidate else None
        if text is not None:
            return _checked(text, name), []
    guess = _guess(data[:_SAMPLE])
    text = _checked(data.decode(guess, "replace"), name)
    return text, [f"The encoding is not declared; it was read as {guess}."]


def declared_in(head: bytes) -> str | None:
    """Return the encoding that an HTML head names."""
    found = _META_CHARSET.search(head)
    return found.group(1).decode("ascii") if found else None


def clean(text: str) -> str:
    """Return text as it is stored: composed, plain line ends, nothing invisible, no runs of empty lines."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n").replace("\v", "\n")
    text = unicodedata.normalize("NFC", text).translate(_DROPPED)
    text = "".join(letter for letter in text if letter in _KEPT_CONTROLS or not _is_control(letter))
    lines = "\n".join(line.rstrip() for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", lines).strip("\n")


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) in {"Cc", "Cs"} or letter == "\ufeff"


def _marked(data: bytes) -> str | None:
    return next((encoding for mark, encoding in _BOMS if data.startswith(mark)), None)


def _wide_without_mark(sample: bytes) -> str | None:
    """Text in UTF-16 of a Latin script has a zero in every second byte."""
    if len(sample) < 4:
        return None
    half = len(sample) // 2
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if odd > 0.3 * half and even < 0.05 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.3 * half and odd < 0.05 * half else None


def _known(encoding: str | None) -> str | None:
    try:
        info = codecs.lookup(encoding or "")
    except (LookupError, ValueError):
        return None
    # The Web's latin-1 is cp1252 (WHATWG Encoding Standard, "Names and labels").
    return "cp1252" if info.name in {"iso8859-1", "ascii"} else info.name


def _strict(data: bytes, encoding: str, cut: bool) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(data, not cut)
    except (UnicodeError, LookupError):
        return None


def _guess(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=_GUESSES).best()
    return best.encoding if best else "cp1252"


def _checked(text: str, name: str) -> str:
    sample = text[:_SAMPLE]
    strange = sum(1 for letter in sample if letter not in "\n\r\t\f\v\x1b" and _is_control(letter))
    lost = sample.count("\ufffd")
    if strange + lost > max(2, len(sample) * 0.02):
        raise Unreadable(f"{name} is not a text document: it holds binary data.")
    if not text.strip():
        raise Unreadable(f"{name} is empty.")
    return text
