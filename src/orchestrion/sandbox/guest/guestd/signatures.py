"""Signed links to files: who has one may read or write that file without the access token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Literal, TypeAlias

Operation: TypeAlias = Literal["read", "write"]


def sign(path: str, operation: Operation, username: str, token: str, expiration: str | None = None) -> str:
    """Return the signature that a link carries.

    Args:
        path: As the link's query gives it.
        operation: What the link permits.
        username: As the query gives it, empty if it doesn't.
        token: The sandbox's access token.
        expiration: When it ends, Unix seconds, as the query gives it; None for never.
    """
    parts = [path, operation, username, token, *([] if expiration is None else [expiration])]
    digest = hashlib.sha256(":".join(parts).encode("utf-8", "surrogateescape")).digest()
    return "v1_" + base64.b64encode(digest).decode().rstrip("=")


def refusal(
    query: Mapping[str, str], headers: Mapping[str, str], operation: Operation, token: str | None
) -> str | None:
    """Say why a request for a file must not be served; None if it may.

    The access token in the headers permits it, or else a signature in the query.
    """
    if token is None:
        return None
    if given := headers.get("x-access-token"):
        return None if _equal(given, token) else "the access token does not match"
    if "signature" not in query:
        return "missing signature query parameter"
    expiration = query.get("signature_expiration")
    wanted = sign(query.get("path", ""), operation, query.get("username", ""), token, expiration)
    if not _equal(wanted, query["signature"]):
        return "invalid signature"
    if expiration is not None and not _is_ahead(expiration):
        return "signature is already expired"
    return None


def _is_ahead(expiration: str) -> bool:
    return expiration.isdecimal() and len(expiration) < 20 and int(expiration) >= time.time()


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))
