"""Which upstream has brought which event: what the coverage of each is counted from. Pure.

That is another question than whether an event is published: one that a server of accounts had
first is published again when a relay brings it (`pipelines.bridge.window`), and yet known.

Limit: the last `count` events, some 200 bytes each. One that comes again after so many others
counts as another event.
"""

from collections import OrderedDict
from enum import Enum, auto
from typing import Final

# Of an event that was there before we started: it counts for nobody, whoever brings it.
_BY_ALL: Final = -1


class Sighting(Enum):
    """What it means for the coverage of an upstream that it has brought an event."""

    FIRST = auto()  # nobody had brought it
    LATER = auto()  # another upstream had, this one had not
    REPEATED = auto()  # this one had, or it was there before we started


class Sightings:
    """The last events, and who has brought each of them."""

    def __init__(self, count: int) -> None:
        """Starts empty.

        Args:
            count: how many events are remembered.
        """
        self._count = count
        self._bits: dict[str, int] = {}
        # For each event a number with one bit for each upstream that has brought it.
        self._events: OrderedDict[bytes, int] = OrderedDict()

    def recall(self, event_id: bytes) -> None:
        """Takes note of an event that was there before we started."""
        self._put(event_id, _BY_ALL)

    def see(self, event_id: bytes, host: str) -> Sighting:
        """Takes note that an upstream has brought an event; returns what that means.

        Args:
            event_id: what tells the event from others, whoever brings it.
            host: the upstream; as many as are configured.
        """
        bit = self._bits.setdefault(host, 1 << len(self._bits))
        seen_by = self._events.get(event_id, 0)
        if seen_by & bit:
            return Sighting.REPEATED
        self._put(event_id, seen_by | bit)
        return Sighting.LATER if seen_by else Sighting.FIRST

    def _put(self, event_id: bytes, seen_by: int) -> None:
        self._events[event_id] = seen_by
        if len(self._events) > self._count:
            self._events.popitem(last=False)
