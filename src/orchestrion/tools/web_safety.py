"""Which URLs and which addresses may be fetched from the host that runs us.

A page, a document or a model may name any URL. What it must not reach is this machine, its network, or the metadata
service of its cloud, whatever spelling, redirect or DNS answer leads there.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import httpx

from orchestrion.core.errors import FetchRefused

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Reach: TypeAlias = Literal["public", "private", "embedded", "forbidden"]

MAX_URL = 4096
_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$")
_NUMBER = re.compile(r"^(\d+|0x[0-9a-f]*)$")
_UNSEEMLY = re.compile(r"[\x00-\x20\x7f-\xa0\\\u200b-\u200f\u2028-\u202e\u2060\ufeff]")

_PRIVATE = [
    ipaddress.ip_network(net)
    for net in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
        *("::1/128", "fc00::/7"),
    )
]
# IPv6 that carries an IPv4 address: mapped, compatible, translated, 6to4, Teredo, NAT64 (RFC 6052, RFC 8215).
_EMBEDDED = [
    ipaddress.ip_network(net)
    for net in (
        *("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "2002::/16", "2001::/32"),
        *("64:ff9b::/96", "64:ff9b:1::/48"),
    )
]
# Metadata services that stand outside link-local: Alibaba, Oracle, Azure's wire server, EC2 and Google over IPv6.
_METADATA = {
    ipaddress.ip_address(address)
    for address in ("100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254")
}


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
    _check_host(host)
    port = _PORTS[parsed.scheme] if parsed.port is None else parsed.port
    return Target(parsed, parsed.scheme, host, port)


def _shown(url: str) -> str:
    return repr(url if len(url) <= 80 else url[:80] + "…")


def _check_host(host: str) -> None:
    """Refuse every spelling of an address but the usual one: 0x7f.1, 017700000001 and 127.1 are tricks."""
    if ":" in host:
        try:
            if ipaddress.IPv6Address(host).scope_id is not None:
                raise ValueError
        except ValueError:
            raise FetchRefused(f"{host[:80]!r} is not a proper address.", "Check the URL.") from None
        return
    labels = host.split(".")
    if _NUMBER.match(labels[-1]):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise FetchRefused(
                f"{host[:80]!r} is an address in an unusual spelling.", "Write it as four decimal numbers."
            ) from None
        return
    if len(host) > 253 or not all(_LABEL.match(label) for label in labels):
        raise FetchRefused(f"{host[:80]!r} is not a proper host name.", "Check the URL.")


def reach_of(address: Address) -> Reach:
    """Say what an address reaches: anyone's server, the user's own network, or what no fetch may touch."""
    if address in _METADATA:
        return "forbidden"
    if any(address in net for net in _PRIVATE):
        return "private"
    if address.version == 6 and any(address in net for net in _EMBEDDED):
        return "forbidden" if int(address) == 0 else "embedded"
    if address.is_multicast or address.is_link_local or address.is_reserved or address.is_unspecified:
        return "forbidden"
    if address.version == 6 and address.is_site_local:
        return "forbidden"
    return "public" if address.is_global else "forbidden"


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
