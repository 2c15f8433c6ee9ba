"""Look-ups as a batch of frames has them: started together, and waited for, but not for ever.

The directory of did:plc and the hosts of did:web have a wait of their own. After a wait in vain
the next batches hardly wait at all (`pipelines.identity.patience`).
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from pipelines.atproto.syntax import Did
from pipelines.errors import IdentityUnavailableError
from pipelines.identity.lookups import DidResolver, Kind, Landed, Lookups, Method, method_of
from pipelines.identity.patience import Patience

Item = tuple[Did, Kind]

# How long a batch waits for its look-ups, by the method of the DID. The directory serves nearly
# everybody and no outsider can make it slow; a did:web host is its owner's, and a few accounts.
WAIT_S: Final[Mapping[Method, float]] = {"plc": 3.0, "web": 0.5}
# Waits are cut into pieces: a queue cannot wait for ever.
_LONGEST_WAIT_S: Final = 3_600.0


class BatchLookups:
    """Starts look-ups and waits for them. For one thread."""

    def __init__(self, resolver: DidResolver, take: Callable[[Landed], bool]) -> None:
        """Takes the resolver over; `close` closes it.

        Args:
            resolver: whom to ask.
            take: takes over the outcome of a look-up; returns False if it was started again, so
                that whoever waits for it goes on waiting.
        """
        self._lookups = Lookups(resolver)
        self._take = take
        self._patience = {method: Patience(wait_s) for method, wait_s in WAIT_S.items()}

    def begin(self, max_wait_s: float) -> None:
        """Begins a batch, which waits `max_wait_s` at most for all its look-ups together."""
        now_s = time.monotonic()
        for patience in self._patience.values():
            patience.begin(now_s, max_wait_s)

    def asked_us(self, did: Did, kind: Kind) -> int | None:
        """Returns when a look-up was started; None unless it is under way."""
        return self._lookups.asked_us(did, kind)

    def start(self, did: Did, kind: Kind, now_us: int) -> bool:
        """Starts a look-up; returns whether it was not under way before and is now."""
        is_new = self._lookups.asked_us(did, kind) is None
        return self._lookups.start(did, kind, now_us) and is_new

    def wait_for(self, items: Iterable[Item]) -> None:
        """Waits for look-ups; what has not landed when the wait is over stays under way."""
        pending: dict[Method, set[Item]] = {method: set() for method in WAIT_S}
        for item in items:
            if self._lookups.asked_us(*item) is not None:
                pending[method_of(item[0])].add(item)
        while (left_s := self._left_s(pending)) > 0:
            landed = self._lookups.land(min(left_s, _LONGEST_WAIT_S))
            if landed is not None and self._taken(landed):
                pending[method_of(landed.did)].discard((landed.did, landed.kind))

    def land_all(self) -> None:
        """Takes over what has landed meanwhile."""
        while (landed := self._lookups.land()) is not None:
            self._taken(landed)

    def close(self) -> None:
        """Cuts off what is under way and closes the resolver."""
        self._lookups.close()

    def _left_s(self, pending: Mapping[Method, set[Item]]) -> float:
        """Returns how long to wait on, and gives up what was waited for long enough."""
        now_s, longest_s = time.monotonic(), 0.0
        for method, items in pending.items():
            left_s = self._patience[method].left_s(now_s)
            if items and not left_s:
                self._patience[method].was_in_vain()
                items.clear()
            if items:
                longest_s = max(longest_s, left_s)
        return longest_s

    def _taken(self, landed: Landed) -> bool:
        if not isinstance(landed.outcome, IdentityUnavailableError):
            self._patience[method_of(landed.did)].was_answered(landed.duration_s)
        return self._take(landed)
