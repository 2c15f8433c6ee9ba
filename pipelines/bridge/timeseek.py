"""Finds the cursor for a moment, by asking the upstream what follows this number and that.

Event streams have no cursor by time, but each event says when it happened, and later numbers have
later times, by and large. So the oldest event that the upstream has is looked at, then events in
growing distance until one is late enough, then the middle between the two. A relay that has 90
million events is asked some thirty times, each time for one event.

Pure: `Search` says what to ask for and takes in the answer. Our own epochs would not do: there are
none where the bridge was not running, and none of an upstream that numbers anew.
"""

from typing import NamedTuple

from pipelines.atproto.frames import MAX_SEQ

# The events of many hosts are not quite in the order of their times. So much earlier than asked
# for is where we start, and as much earlier again is good enough.
SLACK_US = 60_000_000
_GROWTH = 4


class Sighting(NamedTuple):
    """The first event that the upstream sends after a cursor.

    Attributes:
        seq: its sequence number.
        time_us: when it happened, by its own account; microseconds since the epoch.
    """

    seq: int
    time_us: int


class Search:
    """A search for the last event before a moment.

    Attributes:
        next_cursor: what to ask the upstream for next; None when the search is at its end.
        found: the cursor to start with, as far as is known: all events up to it are earlier than
            the moment. 0 where the upstream has no earlier one.
    """

    def __init__(self, time_us: int) -> None:
        """Starts a search.

        Args:
            time_us: the moment, microseconds since the epoch.
        """
        self._latest_us = time_us - SLACK_US
        # The event after this cursor is too late, or there is none; None while not known.
        self._too_late: int | None = None
        self._step = 1
        self.next_cursor: int | None = 0
        self.found = 0

    def answer(self, sighting: Sighting | None) -> None:
        """Takes in what the upstream sent when asked for `next_cursor`; None for nothing."""
        asked = self.next_cursor
        assert asked is not None
        if sighting is None or sighting.time_us >= self._latest_us:
            self._too_late = asked
        else:
            # One that ignores cursors must not keep us here for ever.
            self.found = max(sighting.seq, asked)
            if sighting.time_us >= self._latest_us - SLACK_US:
                self.next_cursor = None
                return
        self.next_cursor = self._choose()

    def _choose(self) -> int | None:
        if self._too_late is None:
            self._step *= _GROWTH
            return min(self.found + self._step, MAX_SEQ) if self.found < MAX_SEQ else None
        if self._too_late - self.found <= 1:
            return None
        return (self.found + self._too_late) // 2
