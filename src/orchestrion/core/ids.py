"""Identifiers: short, sortable by time, safe in a path and in a URL."""

from __future__ import annotations

import os
import re
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID = re.compile(r"^[a-z]{1,8}_[0-9a-hjkmnp-tv-z]{20}$")


def _base32(number: int, length: int) -> str:
    return "".join(_ALPHABET[(number >> (5 * i)) & 31] for i in reversed(range(length)))


def new_id(prefix: str) -> str:
    """Return `prefix_` + 10 characters of time (ms) + 10 of randomness, in Crockford's base 32.

    Args:
        prefix: One to eight lower-case letters naming the kind: `run`, `ses`, `msg`, `call`.
    """
    moment = _base32(time.time_ns() // 1_000_000, 10)
    return f"{prefix}_{moment}{_base32(int.from_bytes(os.urandom(7), 'big'), 10)}"


def is_id(text: str, prefix: str) -> bool:
    """Say whether `text` has the form of an id of this kind."""
    return text.startswith(f"{prefix}_") and _ID.match(text) is not None
