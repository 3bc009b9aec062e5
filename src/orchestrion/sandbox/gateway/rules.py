"""One rule of an allow- or deny-list: a name, a wildcard, an address, a block, or everything."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from orchestrion.core.addresses import Address, Block, check_host
from orchestrion.core.errors import FetchRefused, InvalidInput

WEB_PORTS = (80, 443)
_REMEDY = "Write a host, *.host, an address, a CIDR block or *, each with :port if it is not 80 or 443."
_PORT = re.compile(r"^(?P<what>\[[^\]]*\]|[^:]*):(?P<port>\d{1,5})$")
_EVERYTHING = {"*", "0.0.0.0/0", "::/0"}


@dataclass(frozen=True)
class Rule:
    """A rule as it was written, and what it means.

    Attributes:
        text: As it was written.
        name: A host name in lower case; with a leading dot for every name below it; None if it is about addresses.
        block: Addresses; None if it is about names.
        port: The only port it speaks of; None if it names none.
    """

    text: str
    name: str | None = None
    block: Block | None = None
    port: int | None = None

    @property
    def everything(self) -> bool:
        """Whether it is `*`, the default that other rules make exceptions from."""
        return self.name is None and self.block is None

    def opens(self, port: int) -> bool:
        """Say whether, as an allow rule, it covers a port: the web's own unless it names one."""
        return port in WEB_PORTS if self.port is None else port == self.port

    def shuts(self, port: int) -> bool:
        """Say whether, as a deny rule, it covers a port: every one unless it names one."""
        return self.port is None or port == self.port

    def names(self, host: str) -> bool:
        """Say whether it is about this host name."""
        if self.name is None:
            return False
        return host.endswith(self.name) if self.name.startswith(".") else host == self.name

    def contains(self, address: Address) -> bool:
        """Say whether it is about this address."""
        return self.block is not None and address.version == self.block.version and address in self.block


def parse_rule(text: str) -> Rule:
    """Read a rule.

    Raises:
        InvalidInput: It is none.
    """
    written, port = text.strip().lower(), None
    if found := _PORT.match(written):
        written, port = found["what"], int(found["port"])
        if not 0 < port < 65536:
            raise InvalidInput(f"{text[:80]!r} names no port that there is.", _REMEDY)
    if written.startswith("[") and written.endswith("]"):
        written = written[1:-1]
    if written in _EVERYTHING:
        return Rule(text, port=port)
    try:
        if "%" in written:
            raise InvalidInput(f"{text[:80]!r} is an address of one network card only.", _REMEDY)
        return Rule(text, block=ipaddress.ip_network(written, strict=False), port=port)
    except ValueError:
        return Rule(text, name=_name(text, written), port=port)


def _name(text: str, written: str) -> str:
    below = written.startswith("*.")
    try:
        name = written.removeprefix("*.").removesuffix(".").encode("idna").decode("ascii")
        check_host(name)
        if ":" in name:
            raise UnicodeError
    except (FetchRefused, UnicodeError):
        raise InvalidInput(f"{text[:80]!r} is not a rule for what a sandbox may reach.", _REMEDY) from None
    return f".{name}" if below else name
