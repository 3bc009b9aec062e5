"""How much a single cell may show."""

from __future__ import annotations

import json
from typing import Any

_MOST, _MOST_CHARACTERS = 200, 48 * 1024 * 1024
_NOT_SHOWN = ("type", "is_main_result", "extra")


class Allowance:
    """What one cell may still show; the rest is left out, and counted.

    Attributes:
        left_out: How many results did not fit.
    """

    def __init__(self) -> None:
        self._count = self._characters = self.left_out = 0

    def takes(self, result: dict[str, Any]) -> bool:
        """Say whether a result fits, and count it."""
        shown = {name: value for name, value in result.items() if name not in _NOT_SHOWN and value is not None}
        count = self._count + len(shown)
        characters = self._characters + sum(map(_length, (*shown.values(), result.get("extra"))))
        if count > _MOST or characters > _MOST_CHARACTERS:
            self.left_out += 1
            return False
        self._count, self._characters = count, characters
        return True


def _length(value: object) -> int:
    return len(value) if isinstance(value, str) else len(json.dumps(value))
