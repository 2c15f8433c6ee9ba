"""What a reader of several relays must have of them, each event once: pure.

Two frames are the same event if they differ in nothing but their number, and syncs in nothing but
that and their time (`relay.said`). In which order events of several relays arrive is nobody's. So
the order of each account is judged, and whether what is there again has its reason: an event that
another one of its account has overtaken, because the faster relay had lost it, lets through once
more what follows it (ARCHITECTURE.md, "The same event is one that says the same").
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from chaos.relay import Relay

from pipelines.atproto.frames import Kind, parse_envelope

_SIGNED = (Kind.COMMIT, Kind.SYNC)


class Stored(NamedTuple):
    """A frame as it is in Kafka.

    Attributes:
        partition: where.
        offset: where.
        host: who brought it.
        seq: its number there.
        frame: its bytes.
        event: the same as `said` gives it.
    """

    partition: int
    offset: int
    host: str
    seq: int
    frame: bytes
    event: bytes


class Merged(NamedTuple):
    """What is in Kafka, looked at as events.

    Attributes:
        events: those that count: each once, and what is there again without a reason.
        repeats: where what is there again with a reason is: partition, offset.
    """

    events: list[bytes]
    repeats: set[tuple[int, int]]


def union(relays: Iterable[Relay]) -> list[bytes]:
    """Returns what at least one of the relays has sent, each event once."""
    return list(dict.fromkeys(event for relay in relays for event in relay.events))


def merge(stored: Iterable[Stored]) -> Merged:
    """Tells what is there again with a reason from what should not be.

    Args:
        stored: in order within each partition; all of an account is in one.
    """
    merged = Merged([], set())
    revs: dict[str, str] = {}
    late_counts: dict[str, int] = defaultdict(int)
    seen: dict[bytes, int] = {}
    for one in stored:
        envelope, event = parse_envelope(one.event), one.event
        did = str(envelope.did)
        if seen.get(event) == late_counts[did]:
            merged.events.append(event)  # twice
            continue
        if envelope.kind in _SIGNED:
            rev = str(envelope.payload["rev"])
            late_counts[did] += rev < revs.get(did, "")
            revs[did] = rev
        if event in seen:
            merged.repeats.add((one.partition, one.offset))
        else:
            merged.events.append(event)
        seen[event] = late_counts[did]
    return merged


def orders(events: Iterable[bytes]) -> list[tuple[str, tuple[bytes, ...]]]:
    """Returns each account's events in the order in which they are there for the last time."""
    by_account: dict[str, dict[bytes, None]] = defaultdict(dict)
    for event in events:
        own = by_account[str(parse_envelope(event).did)]
        own.pop(event, None)
        own[event] = None
    return [(did, tuple(own)) for did, own in by_account.items()]


def never_sent(stored: Iterable[Stored], sent: Mapping[str, Sequence[bytes]]) -> list[Stored]:
    """Returns the frames that their host did not send, byte for byte.

    Args:
        stored: what is in Kafka.
        sent: by host.
    """
    frames = {host: set(own) for host, own in sent.items()}
    return [one for one in stored if one.frame not in frames.get(one.host, ())]


def outside_epochs(stored: Iterable[Stored], epochs: Sequence[Mapping[str, Any]]) -> list[Stored]:
    """Returns the frames that do not lie where the epochs of their host have their number.

    Args:
        stored: what is in Kafka.
        epochs: in the order of the topic.
    """
    by_host: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for epoch in epochs:
        by_host[epoch["host"]].append(epoch)
    wrong = []
    for one in stored:
        own = by_host[one.host]
        at = bisect_right(own, one.offset, key=lambda epoch: epoch["next_offsets"][one.partition])
        if at == len(own) or not own[at]["seq_lo"] <= one.seq <= own[at]["seq_hi"]:
            wrong.append(one)
    return wrong
