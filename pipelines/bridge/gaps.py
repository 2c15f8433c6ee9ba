"""Where events are missing between what we have of an upstream and what it sends next.

Pure. A gap is known at the first event after it, and goes into Kafka in that event's transaction.

    given up     a person gave up the stored cursor: what lies between is not asked for
    outdated     the upstream says that it no longer has what follows the cursor   (spec: F-24)
    jump         it does not say so, as deployed relays do not, but numbers and times jump

A gap in the numbers alone is legal and proves nothing (spec: F-20). What is missing without any of
these signs shows in the chain of each repository only, which is judged downstream.
"""

from enum import StrEnum
from typing import NamedTuple

from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.syntax import parse_datetime

# Relays number their events almost without gaps; a small host has gaps where the rows of a deleted
# account were, and nights without an event. Only what shows in both, numbers and time, is a jump.
JUMP_COUNT = 1_000
JUMP_US = 60_000_000
# So many at once are a jump whatever the time: an upstream that lost its state goes on with much
# higher numbers (spec: J-01). The busiest one needs a quarter of an hour for them.
RENUMBERED_COUNT = 1_000_000


class GapReason(StrEnum):
    """How we know that events are missing."""

    CURSOR_GIVEN_UP = "cursor_given_up"
    OUTDATED_CURSOR = "outdated_cursor"
    JUMP = "jump"


class Place(NamedTuple):
    """An event of the upstream.

    Attributes:
        seq: its sequence number.
        time: the upstream's clock, as it stands there; None where it is not known.
    """

    seq: int
    time: str | None


class Gap(NamedTuple):
    """Events may be missing before the event that this comes with.

    Attributes:
        reason: how we know.
        after: the last event that we have.
    """

    reason: GapReason
    after: Place


class Continuity:
    """Watches the events of one upstream for gaps."""

    def __init__(self, last: Place | None, *, is_given_up: bool = False) -> None:
        """Starts after an event.

        Args:
            last: the last one that we have; None if there is none.
            is_given_up: whether the next one does not continue it, because a person decided so.
        """
        self._last = last
        self._announced = GapReason.CURSOR_GIVEN_UP if is_given_up else None

    def begin_connection(self) -> None:
        """Prepares for a connection, in which the upstream will announce anew what it lacks."""
        if self._announced is GapReason.OUTDATED_CURSOR:
            self._announced = None

    def announce(self) -> None:
        """Takes note that the upstream no longer has what follows the last event."""
        self._announced = self._announced or GapReason.OUTDATED_CURSOR

    def advance(self, seq: int, time: str | None) -> Gap | None:
        """Moves on to the next event, which has not been there before.

        Args:
            seq: its sequence number.
            time: the upstream's clock, as it stands there.

        Returns:
            The gap before it, if there is one.
        """
        last, announced = self._last, self._announced
        self._last, self._announced = Place(seq, time), None
        if last is None:
            return None
        if announced is not None:
            return Gap(announced, last)
        if seq - last.seq > JUMP_COUNT and _is_jump(last, self._last):
            return Gap(GapReason.JUMP, last)
        return None


def _is_jump(last: Place, following: Place) -> bool:
    try:
        passed_us = parse_datetime(following.time) - parse_datetime(last.time)
    except ProtocolError:
        return False  # of a place without time nobody knows whether it is an event that was there
    return passed_us >= JUMP_US or following.seq - last.seq >= RENUMBERED_COUNT
