"""Which accounts send more than anybody does by hand, told with bounded memory. Pure.

Nothing is dropped for it: what is valid is passed on, whoever sends how much. But one account lies
in one partition, and whoever works there works for it alone; so it is named in the log.

An upstream can bring events of any number of accounts, so not each can have a counter. With
COUNTERS_COUNT of them the counts are too low by one in so many events at most, and never too high
(J. Misra and D. Gries, "Finding repeated elements", 1982). spec: M-09
"""

from collections.abc import Mapping
from typing import Final

from pipelines.atproto.syntax import Did

# 140 bytes each. At 10,000 events a second a count is too low by 146 at most.
COUNTERS_COUNT: Final = 4_096
# Servers allow their users about thirty writes a minute.
BUSY_COUNT: Final = 1_000
_MINUTE_US: Final = 60_000_000


class BusyAccounts:
    """Counts the events of one upstream by account, minute by minute."""

    def __init__(self) -> None:
        """Starts without events; the first minute begins with the first one."""
        self._counts: dict[Did, int] = {}
        self._end_us = 0

    def count(self, did: Did) -> None:
        """Takes note of an event."""
        known = self._counts.get(did)
        if known is not None:
            self._counts[did] = known + 1
        elif len(self._counts) < COUNTERS_COUNT:
            self._counts[did] = 1
        else:
            # As if this event and one of each counted account had not been.
            self._counts = {other: n - 1 for other, n in self._counts.items() if n > 1}

    def advance(self, now_us: int) -> Mapping[Did, int] | None:
        """Lets time pass; to be called every now and then.

        Args:
            now_us: the time of day, microseconds since the epoch.

        Returns:
            At the end of a minute, the accounts with `BUSY_COUNT` events in it or more, and how
            many at least; None in between.
        """
        if now_us < self._end_us:
            return None
        self._end_us = now_us + _MINUTE_US
        found = {did: n for did, n in self._counts.items() if n >= BUSY_COUNT}
        self._counts = {}
        return found
