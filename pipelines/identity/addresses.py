"""Which hosts may be asked that an outsider has named: SSRF is kept out here.

Whoever owns a domain chooses where a did:web look-up goes, and a redirect chooses again. A name is
therefore looked up once, its addresses are checked, and the connection goes to a checked address
and not to the name: a second look-up could answer differently. Nothing but the well-known ports of
HTTP is asked. Pure. (spec: M-20)

Not checked: what is behind a public address. A host may forward a request as it likes.
"""

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Final

from yarl import URL

MAX_URL_LENGTH: Final = 2_048

_PORTS: Final = {"http": 80, "https": 443}

# Everything of the IANA IPv4 Special-Purpose Address Registry, and multicast. The standard
# library's `is_global` has changed between patch releases, so the list stands here.
_NOT_PUBLIC_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Of IPv6 only what is assigned to the public network counts; inside it, addresses that stand for
# an IPv4 address (6to4, Teredo) or for examples do not.
_PUBLIC_V6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)


class ForbiddenTargetError(Exception):
    """A URL leads where no outsider may send us."""


def is_public(address: str) -> bool:
    """Tells whether an address belongs to the public network.

    Args:
        address: IPv4 or IPv6, as `getaddrinfo` returns it.
    """
    parsed = _parse(address)
    match parsed:
        case None:
            return False
        case IPv4Address():
            return not any(parsed in network for network in _NOT_PUBLIC_V4)
        case IPv6Address():
            return parsed in _PUBLIC_V6 and not any(
                parsed in network for network in _NOT_PUBLIC_V6
            )


def is_loopback(address: str) -> bool:
    """Tells whether an address is this machine's own."""
    parsed = _parse(address)
    return parsed is not None and parsed.is_loopback


def check_addresses(
    host: str, addresses: Iterable[str], *, allow_loopback: bool = False
) -> list[str]:
    """Returns those of a host's addresses that may be connected to.

    Args:
        host: the name that was looked up.
        addresses: what the look-up gave.
        allow_loopback: for development: whether this machine's own addresses count.

    Raises:
        ForbiddenTargetError: there is none.
    """
    allowed = [
        address
        for address in addresses
        if is_public(address) or (allow_loopback and is_loopback(address))
    ]
    if not allowed:
        raise ForbiddenTargetError(f"{host} has no address on the public network")
    return allowed


def check_url(url: URL, *, allow_loopback: bool = False) -> None:
    """Checks what a URL says by itself, before its name is looked up.

    Args:
        url: absolute.
        allow_loopback: for development: whether any port is accepted, and a number of this
            machine's own instead of a name.

    Raises:
        ForbiddenTargetError: it is not `https://name/…` or `http://name/…` at the usual port,
            holds credentials, or is longer than `MAX_URL_LENGTH`.
    """
    shown = str(url)
    if len(shown) > MAX_URL_LENGTH:
        raise ForbiddenTargetError(f"a URL longer than {MAX_URL_LENGTH} characters")
    if url.scheme not in _PORTS or not url.host:
        raise ForbiddenTargetError(f"{shown} is not a web address")
    if url.user is not None or url.password is not None:
        raise ForbiddenTargetError(f"{shown} holds credentials")
    if url.port != _PORTS[url.scheme] and not allow_loopback:
        raise ForbiddenTargetError(f"{shown} is not at the port of its scheme")
    # A number needs no look-up, so nobody would check it later.
    if _parse(url.host) is not None and not (allow_loopback and is_loopback(url.host)):
        raise ForbiddenTargetError(f"{shown} has a number instead of a name")


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(address)
    except ValueError:
        return None
