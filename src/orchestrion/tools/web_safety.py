"""Which URLs and which addresses may be fetched from the host that runs us.

A page, a document or a model may name any URL. What it must not reach is this machine, its network, or the metadata
service of its cloud, whatever spelling, redirect or DNS answer leads there.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

import httpx

from orchestrion.core.addresses import Address, Reach, check_host, reach_of
from orchestrion.core.errors import FetchRefused

MAX_URL = 4096
_PORTS = {"http": 80, "https": 443}
_UNSEEMLY = re.compile(r"[\x00-\x20\x7f-\xa0\\\u200b-\u200f\u2028-\u202e\u2060\ufeff]")


@dataclass(frozen=True)
class Target:
    """A URL that may be asked for, before its name is resolved.

    Attributes:
        url: Without its fragment.
        scheme: `http` or `https`.
        host: In ASCII, without brackets or a final dot.
        port: Always given.
    """

    url: httpx.URL
    scheme: str
    host: str
    port: int

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        return self.scheme, self.host, self.port


def parse_target(url: str) -> Target:
    """Read a URL by the very parser that will ask for it.

    Raises:
        FetchRefused: It is not a plain http(s) URL.
    """
    url = url.strip()
    if not url or len(url) > MAX_URL or _UNSEEMLY.search(url):
        raise FetchRefused(f"{_shown(url)} is not a proper URL.", "Give one that begins with http:// or https://.")
    try:
        parsed = httpx.URL(url).copy_with(fragment=None)
        host = parsed.raw_host.decode("ascii").lower().removesuffix(".")
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise FetchRefused(f"{_shown(url)} is not a proper URL.", "Check its spelling.") from None
    if parsed.scheme not in _PORTS or not host:
        raise FetchRefused(f"{_shown(url)} is not a web address.", "Only http:// and https:// can be fetched.")
    if parsed.userinfo or "@" in parsed.netloc.decode("ascii", "replace"):
        raise FetchRefused(f"The URL for {host} has a user name or password in it.", "Give it without.")
    check_host(host)
    port = _PORTS[parsed.scheme] if parsed.port is None else parsed.port
    return Target(parsed, parsed.scheme, host, port)


def _shown(url: str) -> str:
    return repr(url if len(url) <= 80 else url[:80] + "…")


class FetchPolicy:
    """What one run may fetch.

    Args:
        user_urls: URLs that the user's own goal names.
        private_allowed: Whether a private address among those may be reached.
    """

    def __init__(self, user_urls: Iterable[str] = (), *, private_allowed: bool = False) -> None:
        self._named = set(_origins(user_urls))
        self._private_allowed = private_allowed

    def target(self, url: str) -> Target:
        """Return what a URL asks for.

        Raises:
            FetchRefused: It is no plain http(s) URL, or its port is one that the goal doesn't name.
        """
        target = parse_target(url)
        if target.port != _PORTS[target.scheme] and target.origin not in self._named:
            raise FetchRefused(
                f"Port {target.port} of {target.host} is not a usual web port.",
                "Name the URL with its port in the goal if you want it fetched.",
            )
        return target

    def addresses(self, target: Target, resolved: Iterable[str]) -> list[str]:
        """Return the addresses of a target that may be connected to, in their order.

        One bad answer spoils them all: a name that points here and elsewhere is a trick.

        Raises:
            FetchRefused: One of them may not be reached.
        """
        usable: list[str] = []
        for text in dict.fromkeys(resolved):
            address = ipaddress.ip_address(text.split("%", 1)[0])
            reach = reach_of(address)
            if reach == "public" or (reach == "private" and self._may_be_private(target)):
                usable.append(str(address))
            elif reach != "embedded":
                raise self._refusal(target, address, reach)
        if not usable:
            raise FetchRefused(
                f"{target.host} has no address that may be reached.", "Use a public address of the usual kind."
            )
        return usable

    def _may_be_private(self, target: Target) -> bool:
        return self._private_allowed and target.origin in self._named

    def _refusal(self, target: Target, address: Address, reach: Reach) -> FetchRefused:
        where = "this machine" if address.is_loopback else "a private network"
        if reach == "forbidden":
            where = "an address that no fetch may touch"
        name = f"{target.host} ({address})" if target.host != str(address) else target.host
        remedy = "Only public addresses can be fetched."
        if reach == "private" and self._private_allowed:
            remedy = "Name the URL in the goal, with the same scheme and port, if you want it fetched."
        return FetchRefused(f"{name} leads to {where}.", remedy)


def _origins(urls: Iterable[str]) -> Iterable[tuple[str, str, int]]:
    for url in urls:
        try:
            yield parse_target(url).origin
        except FetchRefused:
            continue  # the goal's own spelling is refused again, with its sentence, when it is fetched
