"""Host names: which of them mean something on the public network.

spec: E-04, E-08, E-09. Pure.
"""

from typing import Final

# Top-level domains that only mean something on a machine or a network of one's own, by
# https://atproto.com/specs/handle "Additional Non-Syntax Restrictions".
_RESERVED_TLDS: Final = frozenset(
    {
        "alt",
        "arpa",
        "example",
        "internal",
        "invalid",
        "local",
        "localhost",
        "onion",
        "test",
    }
)


def is_public_name(host: str) -> bool:
    """Tells whether a name may belong to a host on the public network.

    Args:
        host: a domain name, without port; whether anything is there is not looked up. A single
            label and an address in numbers are no public names.
    """
    _, dot, last = host.lower().rpartition(".")
    return bool(dot) and last not in _RESERVED_TLDS and not last.isdecimal()
