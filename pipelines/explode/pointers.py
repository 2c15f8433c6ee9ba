"""Pointers to frames that wait, and their form in the topic `parked`. Pure.

A pointer names a frame by its place and carries what a person or a later stage must know if the
frame itself is gone by then. One message parks a frame, a null under the same key ends that.
"""

from sys import intern
from typing import NamedTuple

import orjson

from pipelines.atproto.frames import Kind
from pipelines.atproto.syntax import Did
from pipelines.kafka.messages import InputMessage, OutputMessage

# Of a detail: it may quote an error of any length.
MAX_DETAIL_LENGTH = 500
# Kinds of frames, as the bridge notes them in a header, that are judged with a key.
SIGNED_KINDS = frozenset({Kind.COMMIT, Kind.SYNC})


class Pointer(NamedTuple):
    """A frame that waits.

    Attributes:
        did: the account.
        seq: the upstream's sequence number.
        host: the upstream.
        kind: what the frame's own header says it is.
        received_us: when the bridge received the frame, microseconds since the epoch.
        frame_partition: where the frame is in `frames`.
        frame_offset: and at which offset.
        parked_us: since when it waits, by the clock of the worker that parked it.
        detail: why it could not be judged; None if it waits behind another one of its account.
    """

    did: Did
    seq: int
    host: str
    kind: str
    received_us: int
    frame_partition: int
    frame_offset: int
    parked_us: int
    detail: str | None

    @property
    def needs_key(self) -> bool:
        """Whether the frame is judged with a key."""
        return self.kind in SIGNED_KINDS

    @property
    def key(self) -> bytes:
        """The message key."""
        return f"{self.did}/{self.frame_offset}".encode()


def pointer_to(frame: InputMessage, did: Did, parked_us: int, detail: str | None) -> Pointer:
    """Returns the pointer to a frame, by the headers that the bridge wrote.

    Args:
        frame: the message of `frames`.
        did: the account.
        parked_us: the time of day, microseconds since the epoch.
        detail: why it has to wait; None if only because another one does.
    """
    headers = dict(frame.headers)
    return Pointer(
        did=did,
        seq=int(headers["seq"]),
        host=intern(headers["host"].decode()),
        kind=intern(headers["kind"].decode()),
        received_us=int(headers["received_us"]),
        frame_partition=frame.partition,
        frame_offset=frame.offset,
        parked_us=parked_us,
        detail=None if detail is None else detail[:MAX_DETAIL_LENGTH],
    )


def parked_message(pointer: Pointer, topic: str) -> OutputMessage:
    """Returns the message that parks a frame: JSON, version 1."""
    return _message(pointer, topic, orjson.dumps(pointer._asdict()))


def done_message(pointer: Pointer, topic: str) -> OutputMessage:
    """Returns the message that ends the waiting of a frame."""
    return _message(pointer, topic, None)


def parse_pointer(value: bytes) -> Pointer:
    """Takes a message value apart.

    Args:
        value: JSON, version 1.

    Raises:
        ValueError: it is of another shape, which a newer version may have written.
    """
    try:
        fields = orjson.loads(value)
        # The same few words in every pointer: many are kept.
        return Pointer(**fields | {name: intern(fields[name]) for name in ("host", "kind")})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a pointer of version 1: {error!r}") from error


def _message(pointer: Pointer, topic: str, value: bytes | None) -> OutputMessage:
    return OutputMessage(
        topic,
        pointer.frame_partition,
        pointer.key,
        value,
        [("did", pointer.did.encode())],
        pointer.received_us // 1_000,
    )
