"""Where a bridge starts: where it left off, or where it is told to the first time.

The end of `cursors` is its true one, behind transactions that are still open. What
`read_committed` readers see would not do: while any transaction is open that touched the
partition, our own last cursor may lie behind it, committed and not yet readable.
"""

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipelines.atproto.errors import FrameError
from pipelines.atproto.frames import parse_envelope
from pipelines.bridge.gaps import Continuity, Place
from pipelines.bridge.messages import FROM_PDS, StoredCursor, parse_cursor
from pipelines.bridge.window import WINDOW_COUNT, Window
from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.kafka.reading import read_between, readable_log_ends


class AtTime(NamedTuple):
    """A start at a moment.

    Attributes:
        time_us: microseconds since the epoch.
    """

    time_us: int


@dataclass(frozen=True, slots=True)
class Start:
    """What a bridge is told about its start.

    Attributes:
        first: where to start if no cursor is stored for the host: a sequence number to continue
            after (which is one of a single upstream), 0 for the oldest event there is, a moment,
            or None for new events only.
        given_up: stored cursors that no longer count, by their sequence number, as if they were
            not stored. One that has moved on since counts again, so that a process that is
            started anew with the same options does not go back.
    """

    first: int | AtTime | None = None
    given_up: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Begin:
    """Where a bridge starts to read an upstream.

    Attributes:
        cursor: what to ask the upstream for, as in `pipelines.bridge.intake.Intake`.
        start_us: the moment whose cursor is to be found first, or None.
        generation: of what it will write.
        is_proven: whether frames came from this upstream before.
        continuity: knows what was there before.
        last_time: the upstream's clock at the last event that we have, as it stands there; None
            where there is none.
        fields: for the log.
    """

    cursor: int | None
    start_us: int | None
    generation: int
    is_proven: bool
    continuity: Continuity
    last_time: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


def start_of(stored: StoredCursor | None, start: Start) -> Begin:
    """Returns where to start.

    Args:
        stored: the last cursor of the upstream, if there is one.
        start: what the bridge was told.
    """
    is_given_up = stored is not None and stored.seq in start.given_up
    if stored is not None and not is_given_up:
        return Begin(
            stored.seq,
            None,
            stored.generation + 1,
            is_proven=True,
            continuity=Continuity(stored.place),
            last_time=stored.time,
            fields={"cursor": stored.seq, "generation": stored.generation},
        )
    first = start.first
    cursor, start_us = (None, first.time_us) if isinstance(first, AtTime) else (first, None)
    fields = {"cursor": cursor, "start_us": start_us}
    if stored is not None:
        return Begin(
            cursor,
            start_us,
            stored.generation + 1,
            is_proven=True,
            continuity=Continuity(stored.place, is_given_up=True),
            last_time=stored.time,
            fields=fields | {"given_up": stored.seq},
        )
    last = Place(cursor, None) if cursor else None
    return Begin(cursor, start_us, 1, is_proven=False, continuity=Continuity(last), fields=fields)


def load_cursors(kafka: KafkaConfig, hosts: Collection[str]) -> dict[str, StoredCursor]:
    """Reads the last cursors of upstreams.

    To be called after the transactional id was taken over: then no earlier bridge can write
    another one.

    Args:
        kafka: the cluster.
        hosts: the upstreams, which are the keys.

    Returns:
        By host; those that have none, or whose last one was withdrawn with a null, are left out.

    Raises:
        BrokerUnavailableError: the broker does not answer.
        ConfigError: a cursor cannot be understood.
    """
    topic = kafka.topic("cursors")
    ends = readable_log_ends(kafka, [(topic, 0)])
    values: dict[str, bytes | None] = {}
    for message in read_between(kafka, dict.fromkeys(ends, 0), ends):
        host = (message.key or b"").decode(errors="replace")
        if host in hosts:
            values[host] = message.value
    return {
        host: _parsed(value, host, topic) for host, value in values.items() if value is not None
    }


def load_window(kafka: KafkaConfig, partitions_count: int) -> Window:
    """Reads back which events came last, from the end of `frames`.

    Of all partitions together the last `WINDOW_COUNT` offsets are read, as many of each; the ends
    of transactions have offsets, too. What an earlier version took for a frame and this one does
    not is passed over: nothing that comes in now can be the same.

    Args:
        kafka: the cluster.
        partitions_count: how many partitions `frames` has.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    frames = kafka.topic("frames")
    window = Window()
    ends = readable_log_ends(kafka, [(frames, number) for number in range(partitions_count)])
    starts = {where: max(0, end - WINDOW_COUNT // partitions_count) for where, end in ends.items()}
    for message in read_between(kafka, starts, ends):
        pds = dict(message.headers)["host"].decode() if FROM_PDS in message.headers else None
        with contextlib.suppress(FrameError):
            window.recall(parse_envelope(message.value or b""), pds)
    return window


def _parsed(value: bytes, host: str, topic: str) -> StoredCursor:
    try:
        return parse_cursor(value)
    except ValueError as error:
        raise ConfigError(
            f"the cursor of {host} in {topic} cannot be understood ({error}): a newer standpipe "
            "may have written it; update, or use another --topic-prefix"
        ) from None
