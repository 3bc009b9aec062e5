from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.core.addresses import reach_of
from orchestrion.core.errors import FetchRefused
from orchestrion.tools.web_safety import FetchPolicy, parse_target

REFUSED_URLS = [
    "",
    "example.com",
    "//example.com/",
    "http:/example.com",
    "http://",
    "http:///etc/passwd",
    "https://?x",
    "file:///etc/passwd",
    "ftp://example.com/",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "javascript:alert(1)",
    "data:text/html,hi",
    "http://user@example.com/",
    "http://user:pass@example.com/",
    "http://example.com@127.0.0.1/",
    "http://example.com\\@127.0.0.1/",
    "http://127.0.0.1\\.example.com/",
    "http://exam ple.com/",
    "http://example.com/a\r\nHost: evil",
    "http://example.com/\x00",
    "http://exa\u200bmple.com/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0177.0.0.1/",
    "http://0x7f.0.0.1/",
    "http://0x7f000001/",
    "http://0x/",
    "http://2130706433/",
    "http://017700000001/",
    "http://127.0.0.01/",
    "http://1.2.3.4.5/",
    "http://256.1.1.1/",
    "http://999999999999/",
    "http://example.1/",
    "http://%31%32%37.0.0.1/",
    "http://①②⑦.⓪.⓪.①/",
    "http://١٢٧.٠.٠.١/",
    "http://[::1/",
    "http://[::1]x/",
    "http://[fe80::1%25eth0]/",
    "http://[v1.fe80]/",
    "http://..example.com/",
    "http://-example.com/",
    "http://example.com:99999/",
    "http://example.com:port/",
    "http://" + "a" * 300 + ".com/",
    "http://example.com/" + "a" * 5000,
    "http://example.com:8080/",
    "https://example.com:80/",
    "http://example.com:443/",
    "http://example.com:22/",
    "http://example.com:0/",
]


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_hostile_urls_are_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(FetchRefused) as refusal:
        FetchPolicy().target(url)
    assert refusal.value.detail.endswith(".")
    assert len(refusal.value.detail) < 300


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://example.com", "example.com", 80),
        ("HTTPS://EXAMPLE.com./a?b=c#d", "example.com", 443),
        ("https://example.com:443/", "example.com", 443),
        ("http://bücher.example/", "xn--bcher-kva.example", 80),
        ("http://my_host.example/", "my_host.example", 80),
        ("http://93.184.216.34/", "93.184.216.34", 80),
        ("http://127。0。0。1/", "127.0.0.1", 80),
        ("https://[2606:4700::1111]/", "2606:4700::1111", 443),
        (" https://example.com/a%20b ", "example.com", 443),
    ],
)
def test_plain_urls_are_read(url: str, host: str, port: int) -> None:
    target = FetchPolicy().target(url)
    assert (target.host, target.port) == (host, port)
    assert "#" not in str(target.url)


ADDRESSES = {
    "public": ["93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "100.63.255.255", "172.32.0.1", "11.0.0.1"],
    "private": [
        *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"),
        *("100.127.255.255", "::1", "fc00::1", "fdff::1"),
    ],
    "embedded": [
        *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "2002:7f00:1::", "2002:808:808::1", "2001:0:1::1"),
        *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "::ffff:0:7f00:1"),
    ],
    "forbidden": [
        *("0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
        *("255.255.255.255", "192.0.2.1", "198.51.100.1", "203.0.113.9", "198.18.0.1", "192.0.0.1", "192.0.0.192"),
        *("100.100.100.200", "168.63.129.16", "::", "fe80::1", "febf::1", "fec0::1", "ff02::1", "2001:db8::1"),
        *("fd00:ec2::254", "fd20:ce::254", "100::1"),
    ],
}


@pytest.mark.parametrize(("reach", "address"), [(reach, a) for reach, many in ADDRESSES.items() for a in many])
def test_addresses_are_told_apart(reach: str, address: str) -> None:
    assert reach_of(ipaddress.ip_address(address)) == reach


@pytest.mark.parametrize("address", [a for reach, many in ADDRESSES.items() if reach != "public" for a in many])
def test_a_name_that_leads_inside_is_refused_also_beside_a_public_address(address: str) -> None:
    policy = FetchPolicy()
    target = policy.target("http://example.com/")
    with pytest.raises(FetchRefused):
        policy.addresses(target, [address])
    mixed = ["93.184.216.34", address]
    if address in ADDRESSES["embedded"]:
        assert policy.addresses(target, mixed) == ["93.184.216.34"]
    else:
        with pytest.raises(FetchRefused):
            policy.addresses(target, mixed)


NAMED = "http://127.0.0.1:8123/page"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        (NAMED, True),
        ("http://127.0.0.1:8123/other?x=1", True),
        ("http://127.0.0.1:8124/", False),
        ("https://127.0.0.1:8123/", False),
        ("http://127.0.0.1/", False),
        ("http://localhost:8123/", False),
        ("http://127.0.0.2:8123/", False),
    ],
)
def test_a_private_address_is_reached_only_as_the_goal_names_it(url: str, allowed: bool) -> None:
    policy = FetchPolicy([NAMED, "not a url"], private_allowed=True)

    def go() -> list[str]:
        target = policy.target(url)
        return policy.addresses(target, [target.host if target.host != "localhost" else "127.0.0.1"])

    if allowed:
        assert go() == ["127.0.0.1"]
    else:
        with pytest.raises(FetchRefused):
            go()


def test_naming_a_private_url_is_not_enough_on_a_shared_machine() -> None:
    policy = FetchPolicy([NAMED], private_allowed=False)
    with pytest.raises(FetchRefused, match="this machine"):
        policy.addresses(policy.target(NAMED), ["127.0.0.1"])


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest/", "http://100.100.100.200/", "http://[fd00:ec2::254]/", "http://0.0.0.0/"]
)
def test_metadata_is_never_reached_even_if_named(url: str) -> None:
    policy = FetchPolicy([url], private_allowed=True)
    target = policy.target(url)
    with pytest.raises(FetchRefused, match="no fetch may touch"):
        policy.addresses(target, [target.host])


def test_a_port_that_the_goal_names_may_be_used() -> None:
    policy = FetchPolicy(["https://example.com:8443/a"])
    assert policy.target("https://example.com:8443/b").port == 8443
    with pytest.raises(FetchRefused, match="port"):
        policy.target("https://other.example:8443/b")


@given(st.text(max_size=60))
def test_any_text_is_either_read_or_refused(text: str) -> None:
    for url in (text, f"http://{text}/", f"https://example.com/{text}"):
        try:
            target = parse_target(url)
        except FetchRefused:
            continue
        assert target.scheme in {"http", "https"}
        assert target.host == target.host.lower()


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{}", "{:#x}", "{:#o}"]))
def test_a_number_as_a_host_is_always_refused(number: int, form: str) -> None:
    with pytest.raises(FetchRefused):
        parse_target(f"http://{form.format(number).replace('0o', '0')}/")


@given(st.ip_addresses())
def test_only_global_addresses_count_as_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if reach_of(address) == "public":
        assert address.is_global
        assert not any([address.is_loopback, address.is_private, address.is_multicast, address.is_link_local])
