"""Content-addressed values in SQLite: a prompt's messages are kept once, however many calls repeat them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson
from sqlalchemy import Connection, Row, Select, select
from sqlalchemy.dialects.sqlite import insert

from orchestrion.store.database import Database, blobs

_PAGE = 500
_KEEP = insert(blobs).on_conflict_do_nothing()


class SqliteBlobs:
    """See `store.protocols.Blobs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, run_id: str, values: Sequence[Any]) -> list[str]:
        """Keep values; see the protocol."""
        texts = [_encoded(value) for value in values]
        digests = [hashlib.sha256(text).hexdigest() for text in texts]
        rows = [
            {"run_id": run_id, "digest": digest, "data": text} for digest, text in zip(digests, texts, strict=True)
        ]
        if rows:
            await self._database.write(lambda connection: connection.execute(_KEEP, rows))
        return digests

    async def get(self, run_id: str, digests: Sequence[str]) -> dict[str, Any]:
        """Return values; see the protocol."""
        wanted = sorted(set(digests))
        found: dict[str, Any] = {}
        for start in range(0, len(wanted), _PAGE):
            page = blobs.c.digest.in_(wanted[start : start + _PAGE])
            rows = await self._database.read(partial(_rows, select(blobs).where(blobs.c.run_id == run_id, page)))
            found |= {row.digest: orjson.loads(row.data) for row in rows}
        return found


def _encoded(value: Any) -> bytes:
    """Write a value as JSON; halves of letters, which a model can print and UTF-8 can't hold, become `?`."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str)
    except TypeError:
        return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False).encode("utf-8", "replace")


def _rows(query: Select[Any], connection: Connection) -> Sequence[Row[Any]]:
    return connection.execute(query).all()
