"""What the handlers of the simulator share, under typed keys of the web application."""

import math
from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web

from pipelines.identity.pace import TokenBucket
from pipelines.sim.ports import Network


@dataclass(slots=True)
class Faults:
    """What is broken now. Tests change it while the server runs.

    Attributes:
        plc_down: whether the PLC directory and the did:web host answer 503.
        plc_per_s: how many requests a second these two answer together; those beyond get 429. None
            for no limit.
        drop_after_count: drop each subscriber's socket, without a closing handshake, after this
            many frames; None for never.
        withheld_percent: so many of a hundred frames are sent to nobody, while the sockets stay
            open; 100 for a relay that has fallen silent.
    """

    plc_down: bool = False
    plc_per_s: float | None = None
    drop_after_count: int | None = None
    withheld_percent: int = 0

    def __post_init__(self) -> None:
        if type(self.plc_down) is not bool:
            raise ValueError("plc_down is true or false")
        per_s = self.plc_per_s
        if per_s is not None and (type(per_s) not in (int, float) or not 0 < per_s < math.inf):
            raise ValueError("plc_per_s is a number above 0, or null")
        count = self.drop_after_count
        if count is not None and (type(count) is not int or count < 1):
            raise ValueError("drop_after_count is a number from 1 on, or null")
        if type(self.withheld_percent) is not int or not 0 <= self.withheld_percent <= 100:
            raise ValueError("withheld_percent is a number from 0 to 100")


@dataclass(slots=True)
class Requests:
    """How many requests came in, by the name of their route."""

    count_by_kind: Counter[str] = field(default_factory=Counter)


class Patience:
    """Whether the directory and the did:web host may be asked once more."""

    def __init__(self) -> None:
        self._per_s: float | None = None
        self._bucket: TokenBucket | None = None

    def admit(self, per_s: float | None, now_s: float) -> bool:
        """Counts a request; returns False if it is one too many.

        Args:
            per_s: what `Faults.plc_per_s` says now.
            now_s: the time, seconds of a monotonic clock.
        """
        if per_s != self._per_s:
            self._per_s = per_s
            self._bucket = None if per_s is None else TokenBucket(per_s, math.ceil(per_s))
        return self._bucket is None or self._bucket.reserve(now_s, 0.0) is not None


# mypy takes a protocol for abstract, and an abstract class for no key's type.
NETWORK: web.AppKey[Network] = web.AppKey("network")
FAULTS = web.AppKey("faults", Faults)
PATIENCE = web.AppKey("patience", Patience)
REQUESTS = web.AppKey("requests", Requests)
