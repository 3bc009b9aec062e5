"""Column names: every one present, a string, and its own."""

from __future__ import annotations

from collections.abc import Iterable


def tidy(raw: Iterable[object]) -> list[str]:
    """Return usable names: trimmed, on one line, `column_3` for an empty third, `a`, `a.1` for a second `a`."""
    names: list[str] = []
    taken: set[str] = set()
    for position, value in enumerate(raw, 1):
        name = " ".join(str(value).replace("\ufeff", "").split()) if value is not None else ""
        name = name or f"column_{position}"
        unique, copy = name, 0
        while unique in taken:
            copy += 1
            unique = f"{name}.{copy}"
        taken.add(unique)
        names.append(unique)
    return names
