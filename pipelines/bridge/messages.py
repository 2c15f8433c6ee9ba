"""What the bridge writes: the messages of one transaction, and the cursor as it is read back.

A transaction holds frames, quarantined messages, the cursor after them, and an epoch, which says
where the frames went. All of it is there or nothing is.

Pure. The shapes of `cursors` and `epochs` are those of `schemas/json/`. spec: F-28, F-29, F-31
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from pipelines.atproto.frames import Kind
from pipelines.bridge.handover import Entry
from pipelines.bridge.intake import Publish, Quarantine, Skip
from pipelines.kafka.messages import Headers, OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.quarantine import quarantine_headers

STAGE = "bridge"

_KIND_BYTES = {kind: kind.encode() for kind in Kind}


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the messages go.

    Attributes:
        frames: physical name of the topic, as are the others.
        quarantine: keyed by the upstream's host.
        cursors: of one partition.
        epochs: of one partition.
        frames_partitions: how many partitions `frames` has.
        quarantine_partitions: how many `quarantine` has.
    """

    frames: str
    quarantine: str
    cursors: str
    epochs: str
    frames_partitions: int
    quarantine_partitions: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Who writes.

    Attributes:
        host: the upstream, `host[:port]`, lower case.
        generation: how often a bridge has been started for it and wrote something, from 1.
    """

    host: str
    generation: int


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


@dataclass(frozen=True, slots=True)
class Batch:
    """The messages of one transaction, but for the epoch, which needs the offsets of the frames.

    Attributes:
        frames: in the upstream's order.
        quarantined: in the upstream's order.
        cursor: None if no message moved it.
        lowest_seq: of the frames; None if there are none.
        last_frame: the last of the frames; None if there are none.
        position: up to where this goes; None if no message moved the cursor.
    """

    frames: Sequence[OutputMessage]
    quarantined: Sequence[OutputMessage]
    cursor: OutputMessage | None
    lowest_seq: int | None
    last_frame: StreamPosition | None
    position: StreamPosition | None


class StoredCursor(NamedTuple):
    """The last cursor of an upstream, as the topic has it.

    Attributes:
        seq: highest sequence number with everything up to it in `frames`.
        generation: of the bridge that wrote it.
    """

    seq: int
    generation: int


def batch_of(entries: Sequence[Entry], origin: Origin, outputs: Outputs, updated_us: int) -> Batch:
    """Returns the messages that some entries cause.

    Args:
        entries: in the upstream's order.
        origin: who writes.
        outputs: where to.
        updated_us: now, microseconds since the epoch.
    """
    host = origin.host.encode()
    frames: list[OutputMessage] = []
    quarantined: list[OutputMessage] = []
    lowest_seq: int | None = None
    last_frame: StreamPosition | None = None
    position: StreamPosition | None = None
    for entry in entries:
        match entry:
            case Publish():
                frames.append(_frame(entry, host, outputs))
                position = last_frame = StreamPosition(entry.seq, entry.time, entry.received_us)
                lowest_seq = lowest_seq or entry.seq
            case Quarantine():
                quarantined.append(_quarantined(entry, origin.host, outputs))
            case Skip():
                if entry.seq is not None:
                    position = StreamPosition(entry.seq, entry.time, entry.received_us)
    cursor = None if position is None else _cursor(position, origin, outputs, updated_us)
    return Batch(frames, quarantined, cursor, lowest_seq, last_frame, position)


def epoch_of(
    batch: Batch, origin: Origin, outputs: Outputs, next_offsets: Mapping[int, int]
) -> OutputMessage:
    """Returns the epoch of a batch that has frames.

    Args:
        batch: whose frames were delivered.
        origin: who writes.
        outputs: where to.
        next_offsets: for each partition of `frames`, an offset that all frames of this host up to
            the batch's last are below.
    """
    last = batch.last_frame
    assert last is not None
    value = {
        "host": origin.host,
        "generation": origin.generation,
        "seq_lo": batch.lowest_seq,
        "seq_hi": last.seq,
        "time": last.time,
        "received_us": last.received_us,
        "next_offsets": [next_offsets[number] for number in range(outputs.frames_partitions)],
    }
    return _json_message(outputs.epochs, origin, value, last.received_us)


def parse_cursor(value: bytes) -> StoredCursor:
    """Reads a message of `cursors`.

    Args:
        value: as `batch_of` wrote it, now or in an earlier version.

    Raises:
        ValueError: it is not a cursor.
    """
    cursor = orjson.loads(value)
    match cursor:
        case {"seq": int(seq), "generation": int(generation)} if seq >= 0 and generation >= 1:
            return StoredCursor(seq, generation)
    raise ValueError("not a JSON object with seq and generation")


def _frame(entry: Publish, host: bytes, outputs: Outputs) -> OutputMessage:
    headers: Headers = [
        ("host", host),
        ("seq", b"%d" % entry.seq),
        ("kind", _KIND_BYTES[entry.kind]),
        ("received_us", b"%d" % entry.received_us),
    ]
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


def _cursor(
    position: StreamPosition, origin: Origin, outputs: Outputs, updated_us: int
) -> OutputMessage:
    value = {
        "host": origin.host,
        "seq": position.seq,
        "generation": origin.generation,
        "time": position.time,
        "updated_us": updated_us,
    }
    return _json_message(outputs.cursors, origin, value, position.received_us)


def _json_message(
    topic: str, origin: Origin, value: Mapping[str, Any], received_us: int
) -> OutputMessage:
    # Both topics have one partition, which `check_partitions` has made sure of.
    key = origin.host.encode()
    return OutputMessage(topic, 0, key, orjson.dumps(value), [], received_us // 1000)
