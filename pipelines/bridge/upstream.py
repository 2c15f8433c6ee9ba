"""An upstream as the rest of the bridge knows it: its name, and what comes from it.

Pure.
"""

from typing import NamedTuple

from pipelines.bridge.intake import Entry


class Origin(NamedTuple):
    """Who sent something, and who writes it.

    Attributes:
        host: the upstream, `host[:port]`, lower case.
        generation: how often a bridge has been started for it and wrote something, from 1.
        is_pds: whether it is a server of accounts, which speaks for these alone. spec: J-10
    """

    host: str
    generation: int
    is_pds: bool = False


class Handed(NamedTuple):
    """What a message of an upstream has become, on its way into a transaction."""

    origin: Origin
    entry: Entry
