"""A request that is sent twice is carried out once."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response

from orchestrion.server.e2b.answers import Refusal

_KEY = re.compile(r"^[a-z0-9-]{1,255}$")
_SECONDS = 24 * 3600
_KEPT = 10_000


@dataclass(frozen=True)
class _Kept:
    fingerprint: str
    at: float
    reply: asyncio.Task[Response]


class Once:
    """Remembers the answers to requests that came with a key, for a day and while this process runs."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], _Kept] = {}

    async def run(self, owner: str, key: str | None, raw: bytes, work: Callable[[], Awaitable[Response]]) -> Response:
        """Do the work, or return what came of it the first time; a repetition waits for one that is under way.

        Args:
            owner: Whose key.
            key: As sent; None for a request that may be repeated.
            raw: The body, which must be the same each time.
            work: What to do.

        Raises:
            Refusal: The key is malformed, or was used for another request.
        """
        if key is None:
            return await work()
        if not _KEY.match(key):
            raise Refusal(400, "An Idempotency-Key is 1 to 255 characters of a-z, 0-9 and '-'.")
        self._forget()
        fingerprint = hashlib.sha256(raw).hexdigest()
        kept = self._kept.get((owner, key))
        if kept is None:
            kept = _Kept(fingerprint, time.monotonic(), asyncio.ensure_future(_called(work)))
            self._kept[owner, key] = kept
        elif kept.fingerprint != fingerprint:
            raise Refusal(409, "This Idempotency-Key was used for another request.", "idempotency_request_mismatch")
        try:
            return await asyncio.shield(kept.reply)
        except Exception:
            self._kept.pop((owner, key), None)
            raise

    def _forget(self) -> None:
        oldest = time.monotonic() - _SECONDS
        for key, kept in list(self._kept.items()):
            if kept.at > oldest and len(self._kept) < _KEPT:
                return
            del self._kept[key]


async def _called(work: Callable[[], Awaitable[Response]]) -> Response:
    return await work()
