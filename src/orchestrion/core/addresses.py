"""Which addresses are whose, and which spellings of a host are honest: for all that connects on another's word."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal, TypeAlias

from orchestrion.core.errors import FetchRefused

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Block: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Reach: TypeAlias = Literal["public", "private", "embedded", "forbidden"]

_LABEL = re.compile(r"^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$")
_NUMBER = re.compile(r"^(\d+|0x[0-9a-f]*)$")
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


def check_host(host: str) -> None:
    """Refuse every spelling of an address but the usual one: 0x7f.1, 017700000001 and 127.1 are tricks.

    Args:
        host: In lower case, without brackets or a final dot.

    Raises:
        FetchRefused: It is neither a plain address nor a proper host name.
    """
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


def is_private(block: Block) -> bool:
    """Say whether every address of a block belongs to this machine or a private network."""
    return any(block.version == net.version and block.subnet_of(net) for net in _PRIVATE)  # type: ignore[arg-type]
