"""What the handlers of the simulator share, under typed keys of the web application."""

from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web

from pipelines.sim.ports import Network


@dataclass(slots=True)
class Faults:
    """What is broken now. Tests change it while the server runs.

    Attributes:
        plc_down: whether the PLC directory and the did:web host answer 503.
        drop_after_count: drop each subscriber's socket, without a closing handshake, after this
            many frames; None for never.
    """

    plc_down: bool = False
    drop_after_count: int | None = None

    def __post_init__(self) -> None:
        if type(self.plc_down) is not bool:
            raise ValueError("plc_down is true or false")
        count = self.drop_after_count
        if count is not None and (type(count) is not int or count < 1):
            raise ValueError("drop_after_count is a number from 1 on, or null")


@dataclass(slots=True)
class Requests:
    """How many requests came in, by the name of their route."""

    count_by_kind: Counter[str] = field(default_factory=Counter)


# mypy takes a protocol for abstract, and an abstract class for no key's type.
NETWORK: web.AppKey[Network] = web.AppKey("network")
FAULTS = web.AppKey("faults", Faults)
REQUESTS = web.AppKey("requests", Requests)
