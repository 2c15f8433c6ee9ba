"""What a bridge did since it started, for its log and its sign of life.

Each upstream's reader writes its `Received`, the publisher `Published`, in threads of their own;
who reads them gets numbers that may be a moment apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.bridge.messages import StreamPosition
from pipelines.bridge.sightings import Sighting
from pipelines.bridge.vitals import Finding, Trouble, age_s
from pipelines.kafka.beat import Report, State
from pipelines.kafka.distribution import Distribution, groups_of


@dataclass(slots=True)
class Received:
    """What came from an upstream.

    Attributes:
        messages_count: websocket messages.
        first_count: of them, those with an event that no upstream had brought.
        later_count: of them, those with an event that another one had, and this one had not.
        duplicates_count: of them, those with an event that is not published once more.
        resent_count: of them, those that were there before and were dropped.
        skipped_count: of them, those of a type we do not know, without an account.
        connections_count: connections that were opened.
        last_received_us: when the last message came, microseconds since the epoch, or None.
        disconnected_by: why there is no connection now; None while there is one, or is to be.
        misaddressed_us: since when we know that there is no event stream at its address, where
            there never was one; microseconds since the epoch, or None.
        busy_accounts_count: accounts that brought as much as nobody does, in the last minute.
        finding: why the connection is good for little now, if it is.
        found_us: when that was noticed, microseconds since the epoch.
    """

    messages_count: int = 0
    first_count: int = 0
    later_count: int = 0
    duplicates_count: int = 0
    resent_count: int = 0
    skipped_count: int = 0
    connections_count: int = 0
    last_received_us: int | None = None
    disconnected_by: str | None = None
    misaddressed_us: int | None = None
    busy_accounts_count: int = 0
    finding: Finding | None = None
    found_us: int = 0

    @property
    def brought_count(self) -> int:
        """How many different events it brought, of those since the start."""
        return self.first_count + self.later_count

    def count(self, sighting: Sighting) -> None:
        """Counts an event by whether it was brought before."""
        match sighting:
            case Sighting.FIRST:
                self.first_count += 1
            case Sighting.LATER:
                self.later_count += 1
            case Sighting.REPEATED:
                pass


@dataclass(slots=True)
class Published:
    """What was committed, and what waits for it.

    Attributes:
        frames_count: frames.
        frames_bytes: their sizes, without keys and headers.
        quarantined_count: messages in quarantine.
        gaps_count: places where events are known to be missing.
        transactions_count: transactions.
        transaction_ms: how long they took, with their repetitions.
        queued_count: entries that wait for a transaction, as of the last look.
        queued_bytes: sizes of their messages.
        positions: up to where in each upstream's stream, by host.
        transaction_times: how long each transaction took, milliseconds, with its repetitions.
        frame_sizes: how large each frame was, bytes.
        event_delays: how much later than its own time the last event of each transaction and
            upstream came, milliseconds.
    """

    frames_count: int = 0
    frames_bytes: int = 0
    quarantined_count: int = 0
    gaps_count: int = 0
    transactions_count: int = 0
    transaction_ms: int = 0
    queued_count: int = 0
    queued_bytes: int = 0
    positions: dict[str, StreamPosition] = field(default_factory=dict)
    transaction_times: Distribution = field(
        default_factory=lambda: Distribution("transaction_times")
    )
    frame_sizes: Distribution = field(default_factory=lambda: Distribution("frame_sizes"))
    event_delays: Distribution = field(default_factory=lambda: Distribution("event_delays"))


def summary(received: Mapping[str, Received], published: Published) -> dict[str, Any]:
    """Returns the fields of the log line that says how far we are.

    Args:
        received: what came, by host.
        published: what was committed, and what waits for it.
    """
    return {
        "frames": published.frames_count,
        "bytes": published.frames_bytes,
        "transactions": published.transactions_count,
        "quarantined": published.quarantined_count,
        "gaps": published.gaps_count,
        "dropped": sum(one.resent_count for one in received.values()),
        "duplicates": sum(one.duplicates_count for one in received.values()),
        "skipped": sum(one.skipped_count for one in received.values()),
        "queued": published.queued_count,
    }


def upstream_summary(
    host: str, received: Mapping[str, Received], published: Published, *, now_us: int
) -> dict[str, Any]:
    """Returns the fields of the log line that says how far we are with one upstream.

    Args:
        host: the upstream.
        received: what came, by host.
        published: what was committed.
        now_us: now, microseconds since the epoch.

    Returns:
        `seq`, the last one committed; `delay_s`, how much later than its own time we received the
        event with that number (its sender's clock, so it may be negative); `quiet_s`, how long
        nothing came; `coverage`, the part of all upstreams' events that it brought, of 1. None
        where there is nothing to tell.
    """
    position, last_us = published.positions.get(host), received[host].last_received_us
    return {
        "connections": received[host].connections_count,
        "seq": None if position is None else position.seq,
        "delay_s": None if position is None else delay_s_of(position),
        "quiet_s": None if last_us is None else round((now_us - last_us) / 1e6, 1),
        "coverage": coverage_of(received).get(host),
    }


def events_count_of(received: Mapping[str, Received]) -> int:
    """Returns how many different events all upstreams together brought since the start.

    Args:
        received: what came, by host.
    """
    return sum(one.first_count for one in received.values())


def coverage_of(received: Mapping[str, Received]) -> dict[str, float]:
    """Returns the part of all events since the start that each upstream brought, of 1.

    Args:
        received: what came, by host.

    Returns:
        By host; nothing before the first event. An upstream that is catching up has yet to bring
        what the others brought, and a server of accounts brings those of its own alone.
    """
    events_count = events_count_of(received)
    if events_count == 0:
        return {}
    return {host: round(one.brought_count / events_count, 4) for host, one in received.items()}


def report_of(
    received: Mapping[str, Received], published: Published, *, is_leading: bool
) -> Report:
    """Returns what the bridge has to say now.

    Args:
        received: what came, by host.
        published: what was committed, and what waits for it.
        is_leading: whether we work, and do not stand by.

    Returns:
        Counts since the start, and of a leader what waits, `last_received_us`, and groups by host:
        `connected`, 0 or 1; `seq` and `delay_ms` as in `upstream_summary`; `first`, `duplicates`
        and `busy_accounts` as in `Received`; `coverage_ppm`, the coverage in millionths;
        `missing`, the events that others brought and this one has not; `silent`, `slow`, `stale`
        and `misaddressed` for upstreams in such trouble: since when, microseconds since the epoch;
        and the distributions of `Published`.
        Waiting if no upstream can be reached; who stands by is well.
    """
    state, detail = State.RUNNING, None
    gone = {host: one.disconnected_by for host, one in received.items() if one.disconnected_by}
    if is_leading and len(gone) == len(received):
        reasons = [f"{host}: {why}" for host, why in gone.items()]
        state, detail = State.WAITING, "; ".join(reasons)
    elif is_leading and not any(one.connections_count for one in received.values()):
        state = State.STARTING
    counters = {
        "leading": int(is_leading),
        "received": sum(one.messages_count for one in received.values()),
        "resent": sum(one.resent_count for one in received.values()),
        "skipped": sum(one.skipped_count for one in received.values()),
        "connections": sum(one.connections_count for one in received.values()),
        "frames": published.frames_count,
        "frames_bytes": published.frames_bytes,
        "quarantined": published.quarantined_count,
        "gaps": published.gaps_count,
        "transactions": published.transactions_count,
        "transaction_ms": published.transaction_ms,
    }
    if is_leading:
        counters |= {"queued": published.queued_count, "queued_bytes": published.queued_bytes}
    last_us = max((one.last_received_us or 0 for one in received.values()), default=0)
    if is_leading and last_us:
        counters["last_received_us"] = last_us
    return Report(state, detail, counters, _groups(received, published) if is_leading else {})


def _groups(received: Mapping[str, Received], published: Published) -> dict[str, dict[str, int]]:
    positions = dict(published.positions)
    delays_s = {host: delay_s_of(position) for host, position in positions.items()}
    troubles = {
        trouble.value: {
            host: one.found_us
            for host, one in received.items()
            if one.finding is not None and one.finding.trouble is trouble
        }
        for trouble in Trouble
    }
    distributions = groups_of(
        published.transaction_times, published.frame_sizes, published.event_delays
    )
    return (
        troubles
        | distributions
        | {
            "misaddressed": {
                host: one.misaddressed_us
                for host, one in received.items()
                if one.misaddressed_us is not None
            },
            "connected": {
                host: int(one.connections_count > 0 and one.disconnected_by is None)
                for host, one in received.items()
            },
            "busy_accounts": {host: one.busy_accounts_count for host, one in received.items()},
            "first": {host: one.first_count for host, one in received.items()},
            "duplicates": {host: one.duplicates_count for host, one in received.items()},
            "coverage_ppm": {
                host: round(part * 1_000_000) for host, part in coverage_of(received).items()
            },
            "missing": {
                host: events_count_of(received) - one.brought_count
                for host, one in received.items()
            },
            "seq": {host: position.seq for host, position in positions.items()},
            "delay_ms": {
                host: round(delay_s * 1000)
                for host, delay_s in delays_s.items()
                if delay_s is not None
            },
        }
    )


def delay_s_of(position: StreamPosition) -> float | None:
    """Returns how much later than its own time an event came, seconds; None if it has no time."""
    delay_s = age_s(position.received_us, position.time)
    return None if delay_s is None else round(delay_s, 1)
