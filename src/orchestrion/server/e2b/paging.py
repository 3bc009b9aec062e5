"""Lists in pages, and the filter on metadata that travels encoded three times."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar
from urllib.parse import parse_qsl, unquote

from orchestrion.server.e2b.answers import Refusal

NEXT = "X-Next-Token"
_LARGEST = 100


class Placed(Protocol):
    """Something with a place in a list that no later arrival changes."""

    @property
    def place(self) -> tuple[str, str]:
        """When it was made, sortable, and its id."""
        ...


T = TypeVar("T", bound=Placed)


def decode_metadata(parameter: str) -> dict[str, str]:
    """Read the `metadata` parameter, which is decoded once already: a query string of quoted names and values."""
    return {unquote(name): unquote(value) for name, value in parse_qsl(parameter, keep_blank_values=True)}


def page(items: Sequence[T], query: Mapping[str, str], *, ascending: bool = False) -> tuple[list[T], dict[str, str]]:
    """Cut one page out of a list.

    Args:
        items: All, in any order.
        query: The request's parameters: `limit` and `nextToken`.
        ascending: Oldest first.

    Returns:
        The page, and the header that leads to the next one, if there is one.

    Raises:
        Refusal: A parameter is malformed.
    """
    limit = _limit(query.get("limit"))
    ordered = sorted(items, key=lambda item: item.place, reverse=not ascending)
    if token := query.get("nextToken"):
        last = _decode(token)
        ordered = [item for item in ordered if (item.place > last if ascending else item.place < last)]
    chosen = ordered[:limit]
    return chosen, {NEXT: _encode(chosen[-1].place)} if len(ordered) > limit else {}


def _limit(text: str | None) -> int:
    if text is None:
        return _LARGEST
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= _LARGEST:
        raise Refusal(400, f"limit must be a whole number from 1 to {_LARGEST}.")
    return int(text)


def _encode(place: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode("|".join(place).encode()).decode().rstrip("=")


def _decode(token: str) -> tuple[str, str]:
    try:
        moment, _, name = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().partition("|")
    except (binascii.Error, ValueError):
        raise Refusal(400, "nextToken is none that was given out here.") from None
    return moment, name
