"""What can go wrong, and what goes wrong in which round: pure, from a seed."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from random import Random
from typing import NamedTuple

from support.transactions import Note, open_at, was_inside


class Kind(StrEnum):
    """A kind of fault."""

    KILL_BRIDGE = "kill -9 of the leading bridge"
    TAKE_OVER = "kill -9 of the leading bridge, and the other one leads"
    KILL_STAND_BY = "kill -9 of the bridge that stands by"
    KILL_WORKER = "kill -9 of a worker"
    KILL_COMPACT = "kill -9 of compact"
    KILL_BROKER = "kill -9 of the broker"
    PAUSE_BRIDGE = "the leading bridge stopped beyond its session, then on"
    PAUSE = "a worker or compact stopped beyond its session, then on"
    MEMBERS = "a worker or compact added or removed"
    SOCKET = "a socket breaks in the middle of a message"
    CUT_OFF = "a message that ends too early"
    RENUMBER = "a relay numbers anew, or leaves numbers out"
    RESEND = "a relay sends old events again"
    LOSE = "relays lose events that they have not sent"


# A fault of these kinds counts only if it fell inside an open transaction. A bridge that stands by
# has none.
KILLS = frozenset(
    {
        Kind.KILL_BRIDGE,
        Kind.TAKE_OVER,
        Kind.KILL_WORKER,
        Kind.KILL_COMPACT,
        Kind.KILL_BROKER,
        Kind.PAUSE_BRIDGE,
        Kind.PAUSE,
    }
)

# Each kind at least once; twice what is done in two ways by turns.
SHORT_ROUND: Mapping[Kind, int] = dict.fromkeys(Kind, 1) | {
    Kind.MEMBERS: 2,
    Kind.RENUMBER: 2,
    Kind.LOSE: 2,
}
# Seven of these are 322 faults, with 21 of each kind at least.
LONG_ROUND: Mapping[Kind, int] = dict.fromkeys(Kind, 3) | {
    Kind.KILL_WORKER: 4,
    Kind.KILL_COMPACT: 4,
    Kind.RENUMBER: 4,
    Kind.LOSE: 4,
}


class Struck(NamedTuple):
    """A fault that was made.

    Attributes:
        kind: which one.
        target: what it fell on: a transactional id, or a few words.
        at_ms: when it had happened, milliseconds since the epoch.
    """

    kind: Kind
    target: str
    at_ms: int


def counts(fault: Struck, notes: Sequence[Note]) -> bool:
    """Tells whether a fault counts: a kill does if it fell inside an open transaction."""
    if fault.kind is Kind.KILL_BROKER:
        return bool(open_at(notes, fault.at_ms))
    return fault.kind not in KILLS or was_inside(notes, fault.target, fault.at_ms)


def shuffled(counts: Mapping[Kind, int], random: Random) -> list[Kind]:
    """Returns the faults of a round in the order in which they are made."""
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    random.shuffle(kinds)
    return kinds


def missing(counted: Iterable[Kind], *, of_each: int, in_all: int) -> int:
    """Returns how many faults are missing until there are enough of each kind and in all."""
    kinds = list(counted)
    of_kinds = sum(max(0, of_each - kinds.count(kind)) for kind in Kind)
    return max(of_kinds, in_all - len(kinds))
