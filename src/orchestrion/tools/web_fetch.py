"""Fetches one URL from the host: every hop checked, the checked address pinned, everything bounded."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias

import httpx

from orchestrion import __version__
from orchestrion.core.errors import FetchFailed, FetchRefused
from orchestrion.tools.web_safety import FetchPolicy, Target

MAX_BYTES = 50 * 1024 * 1024
SECONDS = 30.0
MAX_REDIRECTS = 5
_CONNECT_SECONDS = 8.0
_ADDRESSES_TRIED = 3

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]

_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_SUFFIXES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "application/pdf": ".pdf",
    "application/x-pdf": ".pdf",
    _DOCX: ".docx",
    "text/markdown": ".md",
    "text/csv": ".csv",
    "application/json": ".json",
    "application/xml": ".txt",
}
_UNLABELLED = {"", "application/octet-stream", "binary/octet-stream", "application/x-download"}


@dataclass(frozen=True)
class Page:
    """What came back.

    Attributes:
        url: Where it came from in the end.
        body: Decoded, whole.
        suffix: A file name's ending that fits its content type; empty if the server didn't say.
        charset: As the server declared it.
    """

    url: str
    body: bytes
    suffix: str
    charset: str | None


async def resolve(host: str, port: int) -> list[str]:
    """Return a host's addresses, in the order in which they should be tried.

    Raises:
        FetchFailed: There is no such host.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise FetchFailed(
            f"There is no host called {host}.", "Check the URL, and that this machine is online."
        ) from None
    return [str(entry[4][0]) for entry in found]


async def fetch(
    url: str,
    policy: FetchPolicy,
    *,
    resolver: Resolve = resolve,
    seconds: float = SECONDS,
    max_bytes: int = MAX_BYTES,
) -> Page:
    """Fetch a page, a text or a document.

    Args:
        url: Where.
        policy: What may be fetched.
        resolver: Turns a host name into addresses.
        seconds: For all of it: names, redirects, body.
        max_bytes: Of the body, as sent and as decoded.

    Raises:
        FetchRefused: The URL, an address or a redirect is not allowed, or the content is of a kind that isn't read.
        FetchFailed: It could not be fetched.
    """
    try:
        async with asyncio.timeout(seconds):
            tls = await asyncio.to_thread(_tls)
            return await _follow(url, policy, _Connection(tls, resolver, max_bytes))
    except TimeoutError:
        raise FetchFailed(f"{url} took longer than {seconds:g} seconds.", "Try again later or use another.") from None


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


async def _follow(url: str, policy: FetchPolicy, connection: _Connection) -> Page:
    seen: set[str] = set()
    for _ in range(MAX_REDIRECTS + 1):
        target = policy.target(url)
        if str(target.url) in seen:
            raise FetchFailed(f"{target.url} redirects in a circle.", "Use another URL.")
        seen.add(str(target.url))
        answer = await connection.ask(target, policy)
        if isinstance(answer, Page):
            return answer
        url = answer
    raise FetchFailed(f"The URL redirects more than {MAX_REDIRECTS} times.", "Use the final URL.")


class _Connection:
    """Asks one target at a time, at an address that was checked."""

    def __init__(self, tls: ssl.SSLContext, resolver: Resolve, max_bytes: int) -> None:
        self._tls = tls
        self._resolver = resolver
        self._max_bytes = max_bytes

    async def ask(self, target: Target, policy: FetchPolicy) -> Page | str:
        """Return the page, or the URL it redirects to."""
        addresses = policy.addresses(target, await self._resolve(target))
        failure: Exception | None = None
        for address in addresses[:_ADDRESSES_TRIED]:
            try:
                return await self._ask_at(target, address)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
            except httpx.HTTPError as error:
                raise _failed(target, error) from None
        raise _failed(target, failure)

    async def _resolve(self, target: Target) -> list[str]:
        try:
            return [str(ipaddress.ip_address(target.host))]
        except ValueError:
            return await self._resolver(target.host, target.port)

    async def _ask_at(self, target: Target, address: str) -> Page | str:
        """Connect to the address itself; the name goes into the Host header and the TLS handshake only."""
        request = httpx.Request(
            "GET",
            target.url.copy_with(host=address),
            headers=_headers(target),
            # The deadline over all of it is the caller's.
            extensions={"sni_hostname": target.host, "timeout": {"connect": _CONNECT_SECONDS}},
        )
        # The transport alone: a client would look at redirects before they are checked, and at proxies.
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            response = await transport.handle_async_request(request)
            try:
                return await self._read(target, response)
            finally:
                await response.aclose()

    async def _read(self, target: Target, response: httpx.Response) -> Page | str:
        if response.has_redirect_location:
            return _location(target, response)
        if not response.is_success:
            reason = HTTPStatus(response.status_code).phrase if response.status_code in set(HTTPStatus) else ""
            raise FetchFailed(f"{target.url} answered {response.status_code} {reason}.".replace(" .", "."))
        suffix = _suffix(target, response)
        body = await self._body(target, response)
        if not body.strip():
            raise FetchFailed(f"{target.url} answered with nothing.", "Use another URL.")
        return Page(str(target.url), body, suffix, response.charset_encoding)

    async def _body(self, target: Target, response: httpx.Response) -> bytes:
        declared = response.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._max_bytes:
            raise self._too_large(target)
        body, received = bytearray(), 0
        decoder = _Decoder(target, response.headers.get("content-encoding", ""))
        async for chunk in response.aiter_raw():
            received += len(chunk)
            body += decoder.decode(chunk, self._max_bytes + 1 - len(body))
            if max(received, len(body)) > self._max_bytes:
                raise self._too_large(target)
        decoder.finish()
        return bytes(body)

    def _too_large(self, target: Target) -> FetchFailed:
        return FetchFailed(f"{target.url} is larger than {self._max_bytes / 2**20:g} MiB.", "Use a smaller document.")


def _headers(target: Target) -> dict[str, str]:
    return {
        "Host": target.url.netloc.decode("ascii"),
        "User-Agent": f"Orchestrion/{__version__}",
        "Accept": f"text/html,application/xhtml+xml,application/pdf,{_DOCX},text/*;q=0.9,application/json;q=0.8",
        "Accept-Encoding": "gzip",
    }


def _location(target: Target, response: httpx.Response) -> str:
    location = response.headers.get("location", "")
    try:
        return str(target.url.join(location))
    except (httpx.InvalidURL, ValueError):
        raise FetchRefused(f"{target.url} redirects to something that is not a URL.", "Use another URL.") from None


def _suffix(target: Target, response: httpx.Response) -> str:
    media_type = response.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type in _SUFFIXES:
        return _SUFFIXES[media_type]
    if media_type in _UNLABELLED:
        return ""
    if media_type.startswith("text/") or media_type.endswith(("+xml", "+json")):
        return ".txt"
    raise FetchRefused(
        f"{target.url} is {media_type[:80]!r}.", "Only web pages, texts, PDF and Word documents can be read."
    )


def _failed(target: Target, error: Exception | None) -> FetchFailed:
    reason = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return FetchFailed(f"{target.host} has no valid certificate.", "It can't be told who answers there.")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return FetchFailed(f"{target.host} can't be reached at port {target.port}.", "Check the URL or try later.")
    return FetchFailed(f"{target.url} broke off: {reason[:200].rstrip('.')}.", "Try again later.")


class _Decoder:
    """Undoes gzip and deflate piece by piece, never making more bytes than asked for."""

    def __init__(self, target: Target, encoding: str) -> None:
        self._target = target
        names = [name.strip().lower() for name in encoding.split(",") if name.strip().lower() not in {"", "identity"}]
        if len(names) > 1 or not {"gzip", "x-gzip", "deflate"}.issuperset(names):
            raise FetchFailed(f"{target.url} is packed as {encoding[:80]!r}, which can't be unpacked here.")
        self._inflate = zlib.decompressobj(47) if names else None  # 47: gzip or zlib, as its head says

    def decode(self, chunk: bytes, room: int) -> bytes:
        """Return at most `room` bytes of what `chunk` unpacks to."""
        if self._inflate is None:
            return chunk[:room]
        if self._inflate.eof:
            return b""
        try:
            return self._inflate.decompress(chunk, max(room, 1))
        except zlib.error:
            raise FetchFailed(f"{self._target.url} is damaged: it can't be unpacked.", "Try again later.") from None

    def finish(self) -> None:
        """Make sure that nothing is missing."""
        if self._inflate is not None and not self._inflate.eof:
            raise FetchFailed(f"{self._target.url} broke off before its end.", "Try again later.")
