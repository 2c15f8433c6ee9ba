"""What a bridge did since it started, for its log and its sign of life.

The reader writes `Received`, the publisher `Published`, each in its own thread; who reads them
gets numbers that may be a moment apart.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipelines.bridge.messages import StreamPosition
from pipelines.kafka.beat import Report, State


@dataclass(slots=True)
class Received:
    """What came from the upstream.

    Attributes:
        messages_count: websocket messages.
        resent_count: of them, those that were there before and were dropped.
        skipped_count: of them, those of a type we do not know, without an account.
        connections_count: connections that were opened.
        last_received_us: when the last message came, microseconds since the epoch, or None.
        disconnected_by: why there is no connection now; None while there is one, or is to be.
    """

    messages_count: int = 0
    resent_count: int = 0
    skipped_count: int = 0
    connections_count: int = 0
    last_received_us: int | None = None
    disconnected_by: str | None = None


@dataclass(slots=True)
class Published:
    """What was committed.

    Attributes:
        frames_count: frames.
        frames_bytes: their sizes, without keys and headers.
        quarantined_count: messages in quarantine.
        transactions_count: transactions.
        position: up to where in the upstream's stream; None before the first transaction.
    """

    frames_count: int = 0
    frames_bytes: int = 0
    quarantined_count: int = 0
    transactions_count: int = 0
    position: StreamPosition | None = None


def summary(
    received: Received, published: Published, *, queued_count: int, now_us: int
) -> dict[str, Any]:
    """Returns the fields of the log line that says how far we are.

    Args:
        received: what came.
        published: what was committed.
        queued_count: messages between the two.
        now_us: now, microseconds since the epoch.

    Returns:
        Counts since the start; `seq`, the last one committed; `delay_s`, how much later than its
        own time we received the event with that number (its sender's clock, so it may be
        negative); `quiet_s`, how long nothing came. None where there is nothing to tell.
    """
    position, last_us = published.position, received.last_received_us
    return {
        "frames": published.frames_count,
        "bytes": published.frames_bytes,
        "transactions": published.transactions_count,
        "quarantined": published.quarantined_count,
        "dropped": received.resent_count,
        "skipped": received.skipped_count,
        "queued": queued_count,
        "connections": received.connections_count,
        "seq": None if position is None else position.seq,
        "delay_s": None if position is None else _delay_s(position),
        "quiet_s": None if last_us is None else round((now_us - last_us) / 1e6, 1),
    }


def report_of(received: Received, published: Published) -> Report:
    """Returns what the bridge has to say now.

    Args:
        received: what came.
        published: what was committed.

    Returns:
        Counts since the start; `last_received_us`; `seq` and `delay_ms` as in `summary`. The last
        three only where there is something to tell.
    """
    detail = received.disconnected_by
    if detail is not None:
        state = State.WAITING
    else:
        state = State.RUNNING if received.connections_count else State.STARTING
    position = published.position
    delay_s = None if position is None else _delay_s(position)
    numbers = {
        "received": received.messages_count,
        "resent": received.resent_count,
        "skipped": received.skipped_count,
        "connections": received.connections_count,
        "last_received_us": received.last_received_us,
        "frames": published.frames_count,
        "frames_bytes": published.frames_bytes,
        "quarantined": published.quarantined_count,
        "transactions": published.transactions_count,
        "seq": None if position is None else position.seq,
        "delay_ms": None if delay_s is None else round(delay_s * 1000),
    }
    counters = {name: number for name, number in numbers.items() if number is not None}
    return Report(state, detail, counters)


def _delay_s(position: StreamPosition) -> float | None:
    try:
        claimed = datetime.fromisoformat(position.time or "")
    except ValueError:
        return None
    if claimed.tzinfo is None:
        claimed = claimed.replace(tzinfo=UTC)
    return round(position.received_us / 1e6 - claimed.timestamp(), 1)
