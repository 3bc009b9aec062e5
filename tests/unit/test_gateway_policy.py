"""What a sandbox may reach, decided without a network."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.core.addresses import reach_of
from orchestrion.core.errors import InvalidInput
from orchestrion.sandbox.gateway import REGISTRIES, Policy, Refusal
from orchestrion.sandbox.protocols import Network

PUBLIC = "93.184.216.34"


def policy(*allow: str, operator: tuple[str, ...] = (), **more: Any) -> Policy:
    return Policy(Network(allow=allow, **more), operator)


def reaches(rules: Policy, host: str, port: int = 443, at: str = PUBLIC) -> bool:
    try:
        return bool(rules.addresses(rules.permit(host, port), [at]))
    except Refusal:
        return False


def test_nothing_is_reached_by_default() -> None:
    assert not reaches(policy(), "example.com")
    assert not reaches(policy(), PUBLIC, at=PUBLIC)


@pytest.mark.parametrize(
    ("rule", "host", "port", "at", "expected"),
    [
        ("example.com", "example.com", 443, PUBLIC, True),
        ("example.com", "EXAMPLE.com.", 80, PUBLIC, True),
        ("Example.COM.", "example.com", 443, PUBLIC, True),
        ("example.com", "www.example.com", 443, PUBLIC, False),
        ("example.com", "notexample.com", 443, PUBLIC, False),
        ("example.com", "example.com.evil.net", 443, PUBLIC, False),
        ("example.com", "example.com", 22, PUBLIC, False),
        ("example.com:22", "example.com", 22, PUBLIC, True),
        ("example.com:22", "example.com", 443, PUBLIC, False),
        ("*.example.com", "a.b.example.com", 443, PUBLIC, True),
        ("*.example.com", "example.com", 443, PUBLIC, False),
        ("*.example.com", "evilexample.com", 443, PUBLIC, False),
        ("*.example.com:8443", "a.example.com", 8443, PUBLIC, True),
        ("bücher.example", "xn--bcher-kva.example", 443, PUBLIC, True),
        (PUBLIC, PUBLIC, 443, PUBLIC, True),
        (PUBLIC, "any.example", 443, PUBLIC, True),
        ("93.184.0.0/16", PUBLIC, 443, PUBLIC, True),
        ("93.184.0.0/16", "any.example", 443, "93.185.0.1", False),
        ("93.184.0.0/16:8080", PUBLIC, 8080, PUBLIC, True),
        ("2606:2800:220::/48", "any.example", 443, "2606:2800:220:1::1", True),
        ("[2606:2800:220::1]:8080", "2606:2800:220::1", 8080, "2606:2800:220::1", True),
        ("*", "any.example", 443, PUBLIC, True),
        ("0.0.0.0/0", "any.example", 443, PUBLIC, True),
        ("*", "any.example", 25, PUBLIC, False),
        ("*:25", "any.example", 25, PUBLIC, True),
    ],
)
def test_an_allow_rule_means_what_it_says(rule: str, host: str, port: int, at: str, expected: bool) -> None:
    assert reaches(policy(rule), host, port, at) is expected


@pytest.mark.parametrize(
    ("allow", "deny", "host", "at", "expected"),
    [
        (["*"], ["evil.example"], "evil.example", PUBLIC, False),
        (["*"], ["evil.example"], "good.example", PUBLIC, True),
        (["*"], ["*.evil.example"], "a.evil.example", PUBLIC, False),
        (["*"], [PUBLIC], "any.example", PUBLIC, False),
        (["*"], ["93.0.0.0/8"], PUBLIC, PUBLIC, False),
        (["*", PUBLIC], ["93.0.0.0/8"], PUBLIC, PUBLIC, True),
        (["*", "good.example"], ["93.0.0.0/8"], "good.example", PUBLIC, True),
        (["good.example"], ["good.example"], "good.example", PUBLIC, True),
        (["*"], ["0.0.0.0/0"], "any.example", PUBLIC, False),
        (["*", "good.example"], ["0.0.0.0/0"], "good.example", PUBLIC, True),
        (["*", PUBLIC], ["*"], PUBLIC, PUBLIC, True),
    ],
)
def test_what_allow_names_wins_over_deny_and_deny_over_the_default(
    allow: list[str], deny: list[str], host: str, at: str, expected: bool
) -> None:
    assert reaches(policy(*allow, deny=tuple(deny)), host, at=at) is expected


def test_registries_are_one_switch() -> None:
    for host in (name.replace("*", "de") for name in REGISTRIES):
        assert reaches(policy(registries=True), host)
        assert not reaches(policy(), host)
    assert not reaches(policy(registries=True), "github.com")
    assert not reaches(policy(registries=True), "upload.pypi.org")
    assert not reaches(policy(registries=True, deny=("pypi.org",)), "pypi.org")
    assert reaches(policy(registries=True, deny=("*",)), "pypi.org")


@pytest.mark.parametrize(
    "at",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "100.64.0.1", "169.254.169.254", "0.0.0.0"),
        *("::1", "fd00::1", "fe80::1", "fd00:ec2::254", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1"),
        *("224.0.0.1", "255.255.255.255", "ff02::1", "100.100.100.200", "168.63.129.16", "::"),
    ],
)
def test_an_allowed_name_that_leads_inside_is_not_reached(at: str) -> None:
    for rules in (policy("good.example"), policy("*"), policy("good.example", "0.0.0.0/0", "::/0", operator=("*",))):
        assert not reaches(rules, "good.example", at=at)
        assert not reaches(rules, at, at=at)


def test_one_address_inside_spoils_the_others() -> None:
    rules = policy("good.example")
    with pytest.raises(Refusal, match="own machine"):
        rules.addresses(rules.permit("good.example", 443), [PUBLIC, "127.0.0.1"])


def test_a_private_address_needs_the_word_of_sandbox_and_operator() -> None:
    rules = ("intra.example", "10.0.0.0/8")
    assert reaches(policy(*rules, operator=rules), "intra.example", at="10.1.2.3")
    assert not reaches(policy(*rules), "intra.example", at="10.1.2.3")
    assert not reaches(policy("intra.example", operator=rules), "intra.example", at="10.1.2.3")
    assert not reaches(policy(*rules, operator=("11.0.0.0/8",)), "intra.example", at="10.1.2.3")
    assert not reaches(policy(*rules, operator=rules), "intra.example", port=5432, at="10.1.2.3")


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "100.100.100.200"])
def test_metadata_services_are_reached_by_nobody(address: str) -> None:
    block = f"{address}/{16 if '.' in address else 64}"
    for rule in (address, block):
        assert not reaches(policy(rule, "*", operator=(rule,)), address, 80, address)
        assert not reaches(policy(rule, "meta.example", operator=(rule,)), "meta.example", 80, address)


@pytest.mark.parametrize(
    "rule",
    [
        *("", "*example.com", "a.*.com", "exa mple.com", "http://example.com", "example.com/path", "1.2.3"),
        *("1.2.3.4/33", "0x7f.1", "example.com:0", "example.com:70000", "a..b", "*.", "user@example.com"),
        *("fe80::1%eth0", "[::1", "::1]"),
    ],
)
def test_a_malformed_rule_is_an_error_with_a_remedy(rule: str) -> None:
    with pytest.raises(InvalidInput) as error:
        policy(rule)
    assert error.value.remedy


@pytest.mark.parametrize("host", ["0x7f.1", "2130706433", "127.1", "017700000001", "a b", "", "[::1", "fe80::1%eth0"])
def test_a_trick_spelling_is_refused_whatever_is_allowed(host: str) -> None:
    assert not reaches(policy("*", "0.0.0.0/0"), host)


def test_a_name_is_not_looked_up_if_no_address_could_be_allowed() -> None:
    with pytest.raises(Refusal):
        policy("good.example").permit("secret.evil.example", 443)
    assert policy("1.1.1.1").permit("unknown.example", 443).rule == ""


_hosts = st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z][a-z0-9]{0,8}){0,3}", fullmatch=True)


@given(st.ip_addresses(), st.booleans(), st.integers(1, 65535))
def test_only_public_addresses_are_reached_whatever_the_port(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, named: bool, port: int
) -> None:
    rules = policy("*", f"*:{port}", "host.example", f"host.example:{port}")
    if reaches(rules, "host.example" if named else str(address), port, str(address)):
        assert reach_of(address) == "public"


@given(_hosts, _hosts, st.integers(1, 65535))
def test_a_rule_for_one_host_opens_no_other(allowed: str, other: str, port: int) -> None:
    assert reaches(policy(allowed), allowed)
    assert reaches(policy(f"{allowed}:{port}"), allowed, port)
    if other != allowed:
        assert not reaches(policy(allowed, f"{allowed}:{port}"), other, port)
    assert reaches(policy(f"*.{allowed}"), f"{other}.{allowed}")


@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_an_error_of_ours(text: str) -> None:
    with suppress(InvalidInput):
        policy(text)
    reaches(policy("*"), text)
