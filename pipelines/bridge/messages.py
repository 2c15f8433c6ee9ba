"""What the bridge writes: the messages of one transaction, and the cursor as it is read back.

A transaction holds frames and quarantined messages of all upstreams, and for each upstream the
cursor after them, an epoch, which says where its frames went, and what is known to be missing
before one of them. All of it is there or nothing.

Pure. The shapes of `cursors`, `epochs` and `gaps` are those of `schemas/json/`.
spec: F-28, F-29, F-31
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from pipelines.atproto.frames import Kind
from pipelines.bridge.gaps import Gap, Place
from pipelines.bridge.intake import Duplicate, Publish, Quarantine, Skip
from pipelines.bridge.upstream import Handed, Origin
from pipelines.kafka.messages import Headers, OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.quarantine import quarantine_headers

STAGE = "bridge"
# Header of a frame that was read from a server of accounts. One from a relay has none.
FROM_PDS: Final = ("upstream", b"pds")

_KIND_BYTES = {kind: kind.encode() for kind in Kind}


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the messages go.

    Attributes:
        frames: physical name of the topic, as are the others.
        quarantine: keyed by the upstream's host.
        cursors: of one partition.
        epochs: of one partition.
        gaps: of one partition.
        frames_partitions: how many partitions `frames` has.
        quarantine_partitions: how many `quarantine` has.
    """

    frames: str
    quarantine: str
    cursors: str
    epochs: str
    gaps: str
    frames_partitions: int
    quarantine_partitions: int


class StreamPosition(NamedTuple):
    """A place in the upstream's stream.

    Attributes:
        seq: sequence number.
        time: the upstream's clock there, as it stood in the frame; None where it had none.
        received_us: when the bridge received it, microseconds since the epoch.
    """

    seq: int
    time: str | None
    received_us: int


class FoundGap(NamedTuple):
    """A gap and the event after it.

    Attributes:
        origin: whose it is.
        gap: what is known of it.
        position: of the event.
    """

    origin: Origin
    gap: Gap
    position: StreamPosition


class Span(NamedTuple):
    """The frames of one upstream in a transaction.

    Attributes:
        lowest_seq: of the first one.
        last: the last one.
    """

    lowest_seq: int
    last: StreamPosition


class StoredGap(NamedTuple):
    """A gap, as the topic has it, as far as somebody who mends it wants to know.

    Attributes:
        host: the upstream.
        from_time: the upstream's clock at the last event before it; None where nobody knows.
    """

    host: str
    from_time: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction says.

    Attributes:
        frames: in the order of each upstream.
        quarantined: in the order of each upstream.
        gaps: what is missing before some of the messages.
        spans: of the upstreams that have frames in it.
        positions: up to where it goes, of the upstreams whose cursor it moves.
    """

    frames: Sequence[OutputMessage]
    quarantined: Sequence[OutputMessage]
    gaps: Sequence[FoundGap]
    spans: Mapping[Origin, Span]
    positions: Mapping[Origin, StreamPosition]


class StoredCursor(NamedTuple):
    """The last cursor of an upstream, as the topic has it.

    Attributes:
        seq: highest sequence number with everything up to it in `frames`.
        generation: of the bridge that wrote it.
        time: the upstream's clock there, as it stood in the event; None where it had none.
    """

    seq: int
    generation: int
    time: str | None = None

    @property
    def place(self) -> Place:
        """The event that it names."""
        return Place(self.seq, self.time)


def batch_of(entries: Sequence[Handed], outputs: Outputs) -> Batch:
    """Returns what some entries come to.

    Args:
        entries: in the order of each upstream.
        outputs: where to.
    """
    frames: list[OutputMessage] = []
    quarantined: list[OutputMessage] = []
    gaps: list[FoundGap] = []
    spans: dict[Origin, Span] = {}
    positions: dict[Origin, StreamPosition] = {}
    for origin, entry in entries:
        if isinstance(entry, Quarantine):
            quarantined.append(_quarantined(entry, origin.host, outputs))
            continue
        if entry.seq is None:
            continue
        position = StreamPosition(entry.seq, entry.time, entry.received_us)
        positions[origin] = position
        if entry.gap is not None:
            gaps.append(FoundGap(origin, entry.gap, position))
        match entry:
            case Publish():
                frames.append(_frame(entry, origin, outputs))
                known = spans.get(origin)
                spans[origin] = Span(known.lowest_seq if known else entry.seq, position)
            case Skip() | Duplicate():
                pass
    return Batch(frames, quarantined, gaps, spans, positions)


def cursors_of(batch: Batch, outputs: Outputs, updated_us: int) -> Iterator[OutputMessage]:
    """Yields the cursor of each upstream that a batch moves on.

    Args:
        batch: what is written with them.
        outputs: where to.
        updated_us: now, microseconds since the epoch.
    """
    for origin, position in batch.positions.items():
        value = {
            "host": origin.host,
            "seq": position.seq,
            "generation": origin.generation,
            "time": position.time,
            "updated_us": updated_us,
        }
        yield _json_message(outputs.cursors, origin, value, position.received_us)


def gaps_of(
    batch: Batch, outputs: Outputs, next_offsets: Mapping[int, int]
) -> Iterator[OutputMessage]:
    """Yields a message for each gap of a batch.

    Args:
        batch: whose gaps they are.
        outputs: where to.
        next_offsets: for each partition of `frames`, an offset that no frame of the batch is
            before.
    """
    for origin, gap, position in batch.gaps:
        value = {
            "host": origin.host,
            "generation": origin.generation,
            "reason": gap.reason,
            "from_seq": gap.after.seq,
            "from_time": gap.after.time,
            "to_seq": position.seq,
            "to_time": position.time,
            "received_us": position.received_us,
            "next_offsets": _in_order(next_offsets, outputs),
        }
        yield _json_message(outputs.gaps, origin, value, position.received_us)


def epochs_of(
    batch: Batch, outputs: Outputs, next_offsets: Mapping[int, int]
) -> Iterator[OutputMessage]:
    """Yields the epoch of each upstream that has frames in a batch.

    Args:
        batch: whose frames were delivered.
        outputs: where to.
        next_offsets: for each partition of `frames`, an offset that all frames up to the batch's
            last are below.
    """
    for origin, (lowest_seq, last) in batch.spans.items():
        value = {
            "host": origin.host,
            "generation": origin.generation,
            "seq_lo": lowest_seq,
            "seq_hi": last.seq,
            "time": last.time,
            "received_us": last.received_us,
            "next_offsets": _in_order(next_offsets, outputs),
        }
        yield _json_message(outputs.epochs, origin, value, last.received_us)


def parse_cursor(value: bytes) -> StoredCursor:
    """Reads a message of `cursors`.

    Args:
        value: as `cursors_of` wrote it, now or in an earlier version.

    Raises:
        ValueError: it is not a cursor.
    """
    cursor = orjson.loads(value)
    match cursor:
        case {
            "seq": int(seq),
            "generation": int(generation),
            "time": str() | None as time,
        } if seq >= 0 and generation >= 1:
            return StoredCursor(seq, generation, time)
    raise ValueError("not a JSON object with seq, generation and time")


def parse_gap(value: bytes) -> StoredGap:
    """Reads a message of `gaps`.

    Args:
        value: as `gaps_of` wrote it.

    Raises:
        ValueError: it is not a gap.
    """
    match orjson.loads(value):
        case {"host": str(host), "from_time": str() | None as from_time}:
            return StoredGap(host, from_time)
    raise ValueError("not a JSON object with host and from_time")


def _frame(entry: Publish, origin: Origin, outputs: Outputs) -> OutputMessage:
    headers: Headers = [
        ("host", origin.host.encode()),
        ("seq", b"%d" % entry.seq),
        ("kind", _KIND_BYTES[entry.kind]),
        ("received_us", b"%d" % entry.received_us),
    ]
    if origin.is_pds:
        headers.append(FROM_PDS)
    return OutputMessage(
        outputs.frames,
        partition_for(entry.did, outputs.frames_partitions),
        entry.did.encode(),
        entry.frame,
        headers,
        entry.received_us // 1000,
    )


def _quarantined(entry: Quarantine, host: str, outputs: Outputs) -> OutputMessage:
    headers: Headers = [("host", host.encode()), ("received_us", b"%d" % entry.received_us)]
    return OutputMessage(
        outputs.quarantine,
        partition_for(host, outputs.quarantine_partitions),
        host.encode(),
        entry.message,
        headers + quarantine_headers(entry.reason, STAGE, entry.detail),
        entry.received_us // 1000,
    )


def _in_order(next_offsets: Mapping[int, int], outputs: Outputs) -> list[int]:
    return [next_offsets[number] for number in range(outputs.frames_partitions)]


def _json_message(
    topic: str, origin: Origin, value: Mapping[str, Any], received_us: int
) -> OutputMessage:
    # These topics have one partition each, which `check_partitions` has made sure of.
    key = origin.host.encode()
    return OutputMessage(topic, 0, key, orjson.dumps(value), [], received_us // 1000)
