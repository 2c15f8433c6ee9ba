"""Addresses and URLs that an outsider may name (spec: M-20)."""

import pytest
from yarl import URL

from pipelines.identity.addresses import (
    MAX_URL_LENGTH,
    ForbiddenTargetError,
    check_addresses,
    check_url,
    is_loopback,
    is_public,
)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "198.17.255.255",
        "223.255.255.255",
        "2001:4860:4860::8888",
        "2600::1",
        "2a02:6b8::2:242",
    ],
)
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "100::1",
        "2001::1",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "",
        "example.com",
        "127.1",
        "2130706433",
    ],
)
def test_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("8.8.8.8", False),
        ("localhost", False),
    ],
)
def test_loopback(address: str, *, expected: bool) -> None:
    assert is_loopback(address) is expected


def test_of_a_hosts_addresses_the_public_ones_count() -> None:
    found = ["10.0.0.1", "8.8.8.8", "::1", "2600::1"]
    assert check_addresses("a.example", found) == ["8.8.8.8", "2600::1"]
    allowed = check_addresses("a.example", found, allow_loopback=True)
    assert allowed == ["8.8.8.8", "::1", "2600::1"]


@pytest.mark.parametrize("found", [[], ["127.0.0.1"], ["10.0.0.1", "fd00::1"]])
def test_a_host_without_a_public_address_is_named(found: list[str]) -> None:
    with pytest.raises(ForbiddenTargetError, match=r"a\.example"):
        check_addresses("a.example", found)


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/x",
        "http://a.example/x?y#z",
        "https://a.example:443/",
        "http://a.example:80/",
    ],
)
def test_urls_of_public_hosts(url: str) -> None:
    check_url(URL(url))


REFUSED_ALWAYS = [
    "ftp://a.example/",
    "file:///etc/passwd",
    "gopher://a.example/",
    "/relative",
    "https://user@a.example/",
    "https://:password@a.example/",
    "https://user:password@a.example/",
    "https://10.0.0.1/",
    "https://8.8.8.8/",
    "https://[fe80::1]/",
    "https://a.example/" + "x" * MAX_URL_LENGTH,
]
REFUSED_ELSEWHERE = [
    "https://a.example:8443/",
    "http://a.example:443/",
    "https://a.example:80/",
    "http://a.example:22/",
    "http://127.0.0.1/",
    "http://[::1]/",
]


@pytest.mark.parametrize("url", [*REFUSED_ALWAYS, *REFUSED_ELSEWHERE])
def test_urls_that_lead_astray(url: str) -> None:
    with pytest.raises(ForbiddenTargetError):
        check_url(URL(url))


@pytest.mark.parametrize("url", REFUSED_ALWAYS)
def test_the_switch_for_development_opens_no_more_than_this_machine(url: str) -> None:
    with pytest.raises(ForbiddenTargetError):
        check_url(URL(url), allow_loopback=True)


@pytest.mark.parametrize("url", REFUSED_ELSEWHERE)
def test_the_switch_for_development_opens_this_machine_at_any_port(url: str) -> None:
    check_url(URL(url), allow_loopback=True)
