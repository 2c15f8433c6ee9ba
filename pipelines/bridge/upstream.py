"""An upstream as the rest of the bridge knows it: its name, and what comes from it.

Pure.
"""

from typing import NamedTuple
from urllib.parse import urlsplit

from pipelines.bridge.intake import Entry
from pipelines.relay import subscribe_url

_DEFAULT_PORTS = {"wss": ":443", "ws": ":80"}


class Origin(NamedTuple):
    """Who sent something, and who writes it.

    Attributes:
        host: the upstream, `host[:port]`, lower case.
        generation: how often a bridge has been started for it and wrote something, from 1.
    """

    host: str
    generation: int


class Handed(NamedTuple):
    """What a message of an upstream has become, on its way into a transaction."""

    origin: Origin
    entry: Entry


def host_of(relay: str) -> str:
    """Returns the name under which an upstream is known in all topics.

    Args:
        relay: address of the upstream, as `pipelines.relay.subscribe_url` takes it.

    Returns:
        `host`, or `host:port` where the port is not that of the scheme; lower case.

    Raises:
        ConfigError: it is no such address.
    """
    parts = urlsplit(subscribe_url(relay))
    return parts.netloc.removesuffix(_DEFAULT_PORTS[parts.scheme])
