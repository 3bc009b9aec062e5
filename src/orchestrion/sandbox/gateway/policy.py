"""What a sandbox may reach: decided by name before anything is looked up, and by address before anything is dialled.

In this order: what `allow` names, what `deny` names, the package registries, `*` in `deny`, `*` in `allow`; nothing
else is reached. Ports are 80 and 443 unless the rule names another. Whatever the rules, an address must be public; a
private one is reached only if a rule of the sandbox names it and a rule of the host's operator does too, and metadata
services are reached by nobody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrion.core.addresses import Address, check_host, is_private, reach_of
from orchestrion.core.errors import FetchRefused
from orchestrion.sandbox.gateway.registries import REGISTRIES
from orchestrion.sandbox.gateway.rules import WEB_PORTS, Rule, parse_rule
from orchestrion.sandbox.protocols import Network

_REMEDY = "Its owner can allow it: in the sandbox's network, or with ORCHESTRION_SANDBOX_EGRESS."
_REGISTRIES = tuple(parse_rule(host) for host in REGISTRIES)


class Refusal(Exception):
    """Why something is not reached.

    Args:
        reason: One sentence.
        rule: The deny rule that says so; empty if no rule allows it.
    """

    def __init__(self, reason: str, rule: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.rule = rule

    @property
    def sentence(self) -> str:
        """The reason and what to do about it."""
        return f"{self.reason} {_REMEDY}"


@dataclass(frozen=True)
class Permit:
    """What may be reached, before its name is looked up.

    Attributes:
        host: In lower case, without brackets or a final dot.
        port: TCP port.
        rule: What allows it; empty if that depends on the addresses that the name has.
        firm: The rule names the host, so that no deny rule for addresses stands against it.
    """

    host: str
    port: int
    rule: str
    firm: bool = False


@dataclass(frozen=True)
class Reachable:
    """An address that may be connected to, and what allows it."""

    address: str
    rule: str


class Policy:
    """The rules for one sandbox.

    Args:
        network: What its owner asked for.
        operator: Rules of the host's operator, of which only those for private addresses count here.

    Raises:
        InvalidInput: A rule is malformed.
    """

    def __init__(self, network: Network, operator: Sequence[str] = ()) -> None:
        allow = [parse_rule(text) for text in network.allow]
        deny = [parse_rule(text) for text in network.deny]
        self._allow = [rule for rule in allow if not rule.everything]
        self._deny = [rule for rule in deny if not rule.everything]
        self._allow_all = [rule for rule in allow if rule.everything]
        self._deny_all = [rule for rule in deny if rule.everything]
        self._registries = _REGISTRIES if network.registries else ()
        self._private = [
            rule for rule in map(parse_rule, operator) if rule.block is not None and is_private(rule.block)
        ]

    def permit(self, host: str, port: int) -> Permit:
        """Decide by name and port.

        Raises:
            Refusal: It is not reached, whatever its addresses.
        """
        host = _proper(host)
        address = _address(host)
        if address is not None:
            return Permit(host, port, "")
        if named := _first(rule for rule in self._allow if rule.names(host) and rule.opens(port)):
            return Permit(host, port, named.text, firm=True)
        self._refuse_denied(host, port)
        if _first(rule for rule in self._registries if rule.names(host) and rule.opens(port)):
            return Permit(host, port, "registries")
        default = self._default(port)
        if default is None and not any(rule.block is not None and rule.opens(port) for rule in self._allow):
            raise self._closed(host, port)
        return Permit(host, port, default.text if default else "")

    def refuse_name(self, host: str, port: int) -> None:
        """Check the name that a client shows to an address it dialled.

        Raises:
            Refusal: A rule denies it.
        """
        if not any(rule.names(host) and rule.opens(port) for rule in self._allow):
            self._refuse_denied(host, port)

    def addresses(self, permit: Permit, resolved: Iterable[str]) -> list[Reachable]:
        """Return the addresses that may be connected to, in their order.

        One address inside spoils them all: a name that points here and elsewhere is a trick.

        Raises:
            Refusal: There is none, or one of them leads inside.
        """
        found: list[Reachable] = []
        refusal = Refusal(f"{permit.host} has no address that may be reached.")
        for text in dict.fromkeys(resolved):
            address = ipaddress.ip_address(text.split("%", 1)[0])
            reach = reach_of(address)
            if reach == "embedded":
                continue
            if reach == "forbidden" or (reach == "private" and not self._private_named(address, permit.port)):
                raise _inside(permit, address, reach)
            try:
                found.append(Reachable(str(address), self._by_address(permit, address)))
            except Refusal as denied:
                refusal = denied
        if not found:
            raise refusal
        return found

    def _by_address(self, permit: Permit, address: Address) -> str:
        """Return the rule that lets this address be reached."""
        if permit.firm:
            return permit.rule
        if named := _first(rule for rule in self._allow if rule.contains(address) and rule.opens(permit.port)):
            return named.text
        if denied := _first(rule for rule in self._deny if rule.contains(address) and rule.shuts(permit.port)):
            raise Refusal(f"{_shown(permit, address)} is denied by the rule {denied.text}.", denied.text)
        if permit.rule:
            return permit.rule
        default = self._default(permit.port)
        if default is None:
            raise self._closed(permit.host, permit.port)
        return default.text

    def _private_named(self, address: Address, port: int) -> bool:
        mine = any(rule.block and is_private(rule.block) and _covers(rule, address, port) for rule in self._allow)
        return mine and any(_covers(rule, address, port) for rule in self._private)

    def _refuse_denied(self, host: str, port: int) -> None:
        if denied := _first(rule for rule in self._deny if rule.names(host) and rule.shuts(port)):
            raise Refusal(f"{host} is denied by the rule {denied.text}.", denied.text)

    def _default(self, port: int) -> Rule | None:
        if any(rule.shuts(port) for rule in self._deny_all):
            return None
        return _first(rule for rule in self._allow_all if rule.opens(port))

    def _closed(self, host: str, port: int) -> Refusal:
        if port in WEB_PORTS:
            return Refusal(f"This sandbox may not reach {host}.")
        return Refusal(f"This sandbox may not reach port {port} of {host}.")


def _covers(rule: Rule, address: Address, port: int) -> bool:
    return rule.contains(address) and rule.opens(port)


def _first(rules: Iterable[Rule]) -> Rule | None:
    return next(iter(rules), None)


def _proper(host: str) -> str:
    host = host.lower().removesuffix(".")
    try:
        check_host(host)
    except FetchRefused as refused:
        raise Refusal(refused.detail) from None
    return host


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _shown(permit: Permit, address: Address) -> str:
    return permit.host if permit.host == str(address) else f"{permit.host} ({address})"


def _inside(permit: Permit, address: Address, reach: str) -> Refusal:
    if reach == "forbidden":
        where = "an address that nobody may touch"
    else:
        where = "the host's own machine" if address.is_loopback else "a private network"
    return Refusal(f"{_shown(permit, address)} leads to {where}.")
