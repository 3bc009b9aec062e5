"""Results as JSON: plain numbers, no NaN, and never longer than asked."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd


def plain(value: Any) -> Any:
    """Return a value JSON can hold: NaN and infinities become null, dates ISO text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d") if value == value.normalize() else value.isoformat(sep=" ")
    return str(value)


@contextmanager
def quiet() -> Iterator[None]:
    """Let figures that do not exist (a mean of infinities, a square out of range) become null without warnings."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def to_json(value: Any, limit: int = 20_000) -> str:
    """Return JSON text of at most about `limit` characters.

    Lists are cut from the longest down, the same share of each; `left_out` then says how many entries are missing
    from which list, so that nothing goes missing in silence.
    """
    whole = plain(value)
    text = json.dumps(whole, ensure_ascii=False)
    longest = 256
    while len(text) > limit and longest >= 1:
        left_out: dict[str, int] = {}
        cut = _shorten(whole, longest, "", left_out)
        if isinstance(cut, dict):
            cut["left_out"] = left_out
        text = json.dumps(cut, ensure_ascii=False)
        longest = longest * 3 // 4 if longest > 1 else 0
    return text


def _shorten(value: Any, longest: int, path: str, left_out: dict[str, int]) -> Any:
    if isinstance(value, dict):
        return {key: _shorten(item, longest, f"{path}.{key}".strip("."), left_out) for key, item in value.items()}
    if isinstance(value, list):
        if len(value) > longest:
            left_out[path] = left_out.get(path, 0) + len(value) - longest
        return [_shorten(item, longest, path, left_out) for item in value[:longest]]
    return f"{value[:197]}…" if isinstance(value, str) and len(value) > 200 else value
