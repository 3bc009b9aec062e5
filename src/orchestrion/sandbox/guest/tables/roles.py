"""What each column is for: a measure, a date, a category, an identifier, a yes or no, or free text."""

from __future__ import annotations

import re
from typing import Literal

import pandas as pd

from .dates import parse_dates

Role = Literal["numeric", "date", "category", "text", "identifier", "boolean", "empty"]

_ID_NAME = re.compile(
    r"(^|[\s_\-.])(id|ids|uuid|guid|key|nr|no|number|num|code|zip|plz|postcode|postal|phone|index|row|rowid|ean|isbn|sku)$"
    r"|[a-z](Id|ID|Nr|No|Key)$|^(unnamed|index|row)\b",
    re.IGNORECASE,
)
_YEAR_NAME = re.compile(r"(^|[\s_])(year|yr|jahr|année|annee|año|ano)$", re.IGNORECASE)
_BOOLEAN_WORDS = [{"yes", "no"}, {"y", "n"}, {"true", "false"}, {"t", "f"}, {"on", "off"}, {"ja", "nein"}]


def roles(df: pd.DataFrame) -> dict[str, Role]:
    """Return the role of every column."""
    return {str(column): role(df[column]) for column in df.columns}


def role(values: pd.Series) -> Role:
    """Return the role of a column, from its name and values."""
    present = values.dropna()
    if present.empty:
        return "empty"
    if pd.api.types.is_bool_dtype(values.dtype) or _is_boolean(present):
        return "boolean"
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return "date"
    if pd.api.types.is_numeric_dtype(values.dtype):
        return _numeric_role(str(values.name), present)
    if pd.api.types.is_timedelta64_dtype(values.dtype):
        return "text"
    return _text_role(str(values.name), present)


def is_year(values: pd.Series) -> bool:
    """A column of whole numbers named year, all of them years."""
    present = values.dropna()
    return (
        bool(_YEAR_NAME.search(str(values.name)))
        and pd.api.types.is_numeric_dtype(values.dtype)
        and not present.empty
        and bool(((present % 1 == 0) & present.between(1000, 2999)).all())
    )


def _is_boolean(present: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(present.dtype) or len(present) < 2:
        return False
    head = {str(cell).strip().lower() for cell in present.head(50)}
    if not any(head <= words for words in _BOOLEAN_WORDS):
        return False
    words = {str(cell).strip().lower() for cell in present.unique()}
    return len(words) == 2 and any(words <= known for known in _BOOLEAN_WORDS)


def _numeric_role(name: str, present: pd.Series) -> Role:
    if is_year(present):
        return "date"
    whole = bool((present % 1 == 0).all())
    unique = present.is_unique and len(present) > 2
    if not whole or not unique:
        return "identifier" if whole and _ID_NAME.search(name) and present.nunique() > 12 else "numeric"
    ordered = pd.api.types.is_integer_dtype(present.dtype) and bool((present.diff().dropna() == 1).all())
    return "identifier" if _ID_NAME.search(name) or (ordered and len(present) >= 20) else "numeric"


def _text_role(name: str, present: pd.Series) -> Role:
    if parse_dates(present.head(2000)) is not None:
        return "date"
    distinct = present.nunique()
    if distinct == len(present) and distinct > 20:
        words = present.head(200).map(lambda cell: len(str(cell).split()))
        return "identifier" if words.mean() < 1.5 or _ID_NAME.search(name) else "text"
    if _ID_NAME.search(name) and distinct > 0.5 * len(present) and distinct > 20:
        return "identifier"
    if distinct <= max(20, min(500, 0.1 * len(present))):
        return "category"
    lengths = present.head(500).map(lambda cell: len(str(cell)))
    return "category" if distinct <= min(0.5 * len(present), 2000) and lengths.mean() <= 40 else "text"
