"""Who may ask: bearer keys, the Host check against DNS rebinding, the Origin check against forged requests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrion.core.errors import Forbidden, Unauthorized
from orchestrion.core.settings import Settings

LOCAL_OWNER = "local"
OWNER = "orchestrion.owner"

_BEARER = "bearer."

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/docs"})
_PAGE_FILE = re.compile(r"^/(assets/.*|[^/]+\.[a-z0-9]+)$")


def is_loopback(host: str) -> bool:
    """Say whether a host name or address can only mean this machine."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def owner_of(key: str) -> str:
    """Return the owner that a key stands for: a short hash, so that no key is ever stored."""
    return "key-" + hashlib.sha256(b"orchestrion owner\0" + key.encode()).hexdigest()[:16]


def host_name(netloc: str) -> str:
    """Return the name in `name:port`, lower-case, without the brackets of IPv6."""
    try:
        return (urlsplit(f"//{netloc}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _netloc(origin: str) -> str:
    """Return the `name:port` of an Origin header, or an empty string for what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


@dataclass(frozen=True)
class Gate:
    """The rules, taken from the settings once.

    Attributes:
        keys: Bearer keys; without any, everyone on this machine is `local`.
        hosts: Names (or `name:port`) this server is reached by, besides loopback ones.
    """

    keys: tuple[str, ...]
    hosts: frozenset[str]

    @classmethod
    def from_settings(cls, settings: Settings) -> Gate:
        """Read the rules."""
        keys = tuple(key.get_secret_value() for key in settings.api_keys)
        return cls(keys, frozenset(host.lower() for host in settings.allowed_hosts))

    def check_host(self, headers: Headers) -> None:
        """Refuse a foreign Host header where no key protects us: a rebound DNS name would reach us with it.

        Raises:
            Forbidden: The name is not ours.
        """
        host = headers.get("host", "").lower()
        name = host_name(host)
        if self.keys or is_loopback(name) or host in self.hosts or name in self.hosts:
            return
        raise Forbidden(
            f"This server does not answer to the host name {name[:100]!r}.",
            "Add the name to ORCHESTRION_ALLOWED_HOSTS if it is yours.",
        )

    def check_origin(self, headers: Headers) -> None:
        """Refuse a request that another site's page makes a browser send.

        Raises:
            Forbidden: The page that sent it is not ours.
        """
        origin = headers.get("origin")
        if origin is None:
            if headers.get("sec-fetch-site", "none") in {"same-origin", "none"}:
                return
        else:
            netloc = _netloc(origin)
            same = netloc != "" and netloc == headers.get("host", "").lower()
            if same or netloc in self.hosts or host_name(netloc) in self.hosts:
                return
        raise Forbidden(
            "A page of another site asked for this.",
            "Open Orchestrion's own page, or add the site's host to ORCHESTRION_ALLOWED_HOSTS.",
        )

    def owner(self, headers: Headers) -> str | None:
        """Return who asks, or None when a key is needed and none that fits was sent."""
        if not self.keys:
            return LOCAL_OWNER
        given = sent_key(headers).encode()
        fits = [key for key in self.keys if hmac.compare_digest(key.encode(), given)]
        return owner_of(fits[0]) if given and fits else None


def sent_key(headers: Headers) -> str:
    """Return the bearer key that came with a request, or an empty string.

    A browser can't set headers on a WebSocket; there the key comes as a subprotocol, `bearer.` and its base64url.
    """
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    offered = (name.strip() for name in headers.get("sec-websocket-protocol", "").split(","))
    return next((_decoded(name[len(_BEARER) :]) for name in offered if name.startswith(_BEARER)), "")


def _decoded(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except ValueError:
        return ""


def route_path(scope: Scope) -> str:
    """Return the path without the prefix that a proxy put before us."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


def needs_key(path: str) -> bool:
    """Say whether a path is closed to those without a key: all are but a few and the page's own files."""
    return path not in _OPEN_PATHS and _PAGE_FILE.match(path) is None


class GateMiddleware:
    """Applies the gate to every request and WebSocket; leaves the owner in the scope."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self.app = app
        self.gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or refuse it."""
        if scope["type"] in {"http", "websocket"}:
            self._check(scope)
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self.gate.check_host(headers)
        if scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS:
            self.gate.check_origin(headers)
        owner = self.gate.owner(headers)
        if owner is None and needs_key(route_path(scope)):
            raise Unauthorized("This server needs a key that it knows.", "Send it as `Authorization: Bearer <key>`.")
        scope[OWNER] = owner
