"""What the handlers of the simulator share, under typed keys of the web application."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from http import HTTPStatus

from aiohttp import web

from pipelines.identity.pace import TokenBucket
from pipelines.sim.ports import Network


@dataclass(frozen=True, slots=True)
class HostFaults:
    """What is wrong with one host, where it answers about repositories.

    Attributes:
        is_down: it breaks every connection.
        status: a proxy before it answers everything with this HTTP status and a page of HTML.
        has_plain_errors: its errors are pages of HTML, too.
        per_s: how many requests a second it answers; those beyond get 429. None for no limit.
        retry_after_s: what 429 asks for in `Retry-After`.
        bytes_per_s: how slowly a CAR comes; None for as fast as it is read.
        truncated_bytes: a CAR ends after so many bytes, as if it were whole; None for never.
        cut_bytes: the connection breaks after so many bytes of a CAR; None for never.
        is_stale: it knows of each repository but its latest commit.
        unknown_count: so many accounts that nobody has are on each page of listRepos.
        has_wrong_heads: listRepos tells of heads that never were, with revisions of the future.
        is_endless: listRepos has a next page always, and begins again after the last.
    """

    is_down: bool = False
    status: int | None = None
    has_plain_errors: bool = False
    per_s: float | None = None
    retry_after_s: int = 1
    bytes_per_s: int | None = None
    truncated_bytes: int | None = None
    cut_bytes: int | None = None
    is_stale: bool = False
    unknown_count: int = 0
    has_wrong_heads: bool = False
    is_endless: bool = False

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if type(item.default) is bool:
                if type(value) is not bool:
                    raise ValueError(f"{item.name} is true or false")
            elif item.name == "per_s":
                _check_rate(item.name, value)
            elif value is not None or type(item.default) is int:
                lowest = 1 if item.name == "bytes_per_s" else 0
                if type(value) is not int or value < lowest:
                    raise ValueError(f"{item.name} is a number from {lowest} on")
        if self.status is not None and self.status not in _ERROR_STATUSES:
            raise ValueError("status is an HTTP status of an error, or null")


_ERROR_STATUSES = frozenset(status for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST)


def _check_rate(name: str, per_s: object) -> None:
    if per_s is None:
        return
    if not isinstance(per_s, int | float) or isinstance(per_s, bool) or not 0 < per_s < math.inf:
        raise ValueError(f"{name} is a number above 0, or null")


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
        relay_redirects: whether the relay's getRepo sends everybody on to the account's PDS, at
            the address that its document names.
        hosts: what is wrong with hosts, by name: that of a PDS, "*" for every PDS that has no
            entry of its own, or "relay".
    """

    plc_down: bool = False
    plc_per_s: float | None = None
    drop_after_count: int | None = None
    withheld_percent: int = 0
    relay_redirects: bool = False
    hosts: Mapping[str, HostFaults] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.plc_down) is not bool:
            raise ValueError("plc_down is true or false")
        _check_rate("plc_per_s", self.plc_per_s)
        count = self.drop_after_count
        if count is not None and (type(count) is not int or count < 1):
            raise ValueError("drop_after_count is a number from 1 on, or null")
        if type(self.withheld_percent) is not int or not 0 <= self.withheld_percent <= 100:
            raise ValueError("withheld_percent is a number from 0 to 100")
        if type(self.relay_redirects) is not bool:
            raise ValueError("relay_redirects is true or false")


@dataclass(slots=True)
class Requests:
    """How many requests came in, by the name of their route."""

    count_by_kind: Counter[str] = field(default_factory=Counter)


class Patience:
    """Whether a host may be asked once more: a PDS, or the directory with the did:web host."""

    def __init__(self) -> None:
        self._per_s: float | None = None
        self._bucket: TokenBucket | None = None

    def admit(self, per_s: float | None, now_s: float) -> bool:
        """Counts a request; returns False if it is one too many.

        Args:
            per_s: what its faults say now.
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
