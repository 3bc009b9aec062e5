"""Numbers as people write them: grouped digits, decimal commas, currency signs, percent, brackets for minus."""

from __future__ import annotations

import re

import pandas as pd

_GROUP = r"[,'’ \u00a0\u202f]"
_POINT = re.compile(rf"[+-]?(\d{{1,3}}({_GROUP}\d{{3}})+|\d+)(\.\d+)?")
_COMMA = re.compile(r"[+-]?(\d{1,3}([.'’ \u00a0\u202f]\d{3})+|\d+)(,\d+)?")
_PLAIN = re.compile(r"[+-]?(0|[1-9]\d{0,14})(\.\d+)?([eE][+-]?\d{1,2})?")
_CURRENCY = r"[$€£¥₹₽₩]|USD|EUR|GBP|CHF|JPY"
_DRESSED = re.compile(rf"(?:{_CURRENCY})?\s*(?P<core>[-+]?\s*[\d.,'’ \u00a0\u202f]*\d)\s*(?:{_CURRENCY}|%)?")


def grouped_to_numbers(values: pd.Series, decimal: str) -> pd.Series | None:
    """Return the column as numbers if every value present is one, else None."""
    known = pd.Series(values.dropna().unique(), dtype="object")
    pattern = _COMMA if decimal == "," else _POINT
    if not all(pattern.fullmatch(str(cell).strip()) for cell in known):
        return None
    if decimal != "," and known.map(lambda cell: bool(re.fullmatch(r"0\d+", str(cell).strip()))).any():
        return None
    return _narrow(values.map({cell: plain_number(str(cell), decimal) for cell in known}))


def quoted_to_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn columns of JSON strings into numbers where every string is a plain one, as pandas' own reader does."""
    for column in frame.columns:
        texts = frame[column].dropna()
        if len(texts) and texts.map(lambda cell: isinstance(cell, str) and bool(_PLAIN.fullmatch(cell))).all():
            frame[column] = pd.to_numeric(frame[column])
    return frame


def dressed_to_numbers(values: pd.Series) -> tuple[pd.Series, list[str]] | None:
    """Return a text column as numbers, with the values that are none, if nearly every value is one.

    The bar is 95 % of the values present and at least three numbers, so that a stray word does not turn a column of
    measurements into text, and a stray number does not turn a column of words into numbers.
    """
    head = values.dropna().head(500)
    if len(head) and head.map(lambda cell: _undress(str(cell)) is not None).mean() < 0.8:
        return None
    counts = values.dropna().value_counts()
    parsed = {cell: _undress(str(cell)) for cell in counts.index}
    good = sum(int(counts[cell]) for cell, number in parsed.items() if number is not None)
    if good < max(3, 0.95 * counts.sum()):
        return None
    if any(re.fullmatch(r"\s*0\d+\s*", str(cell)) for cell in counts.index):
        return None
    lost = [str(cell) for cell, number in parsed.items() if number is None]
    return _narrow(values.map(parsed)), lost


def plain_number(text: str, decimal: str) -> float:
    """Parse a number whose decimal sign is known."""
    bare = re.sub(r"['’ \u00a0\u202f]", "", text.strip())
    bare = bare.replace(".", "").replace(",", ".") if decimal == "," else bare.replace(",", "")
    return float(bare)


def _undress(text: str) -> float | None:
    """Parse `$1,200.50`, `12 %`, `(300)`, `−5`; None if it is no number."""
    bare = text.strip().replace("\u2212", "-")
    if bare.startswith("(") and bare.endswith(")"):
        bare = f"-{bare[1:-1].strip()}"
    sign = "-" if bare.startswith("-") else ""
    match = _DRESSED.fullmatch(bare.removeprefix("-").strip())
    core = sign + match["core"].strip() if match else bare
    if match and _POINT.fullmatch(core):
        return plain_number(core, ".")
    if match and _COMMA.fullmatch(core):
        return plain_number(core, ",")
    return _scientific(bare)


def _scientific(text: str) -> float | None:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return None
    return float(text)


def _narrow(values: pd.Series) -> pd.Series:
    """Use integers where nothing is missing and no value has a fraction."""
    numbers = values.astype("float64")
    whole = len(numbers) > 0 and numbers.notna().all() and (numbers % 1 == 0).all() and (numbers.abs() < 2**53).all()
    return numbers.astype("int64") if whole else numbers
