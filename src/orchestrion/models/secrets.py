"""Take keys out of what providers say: some echo the key they refuse."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MASK = "••••"
_KEY_LIKE = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|nvapi|lsv2|AIza|fw|pplx|csk|tgp)[-_][-\w.*]{6,}|\bAIza[-\w]{10,}|(?<=[Bb]earer )\S+"
)


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` with these secrets, and whatever looks like a key, masked."""
    for secret in secrets:
        if len(secret) > 3:
            text = text.replace(secret, _MASK)
    return _KEY_LIKE.sub(_MASK, text)
