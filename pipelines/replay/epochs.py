"""The order in which an upstream sent its frames, restored from the epochs. Pure.

Partitions have no order among each other. An epoch is what one transaction of the bridge brought
of a host: every frame of the host up to `seq_hi` is below `next_offsets`, and none of a later
epoch is. So with all partitions read up to there, what was read can be sorted and let go:

    epoch      seq_hi   next_offsets     held before it     let go
    1          104      [3, 2]           101 102 103 104    all, by number
    2          109      [5, 3]           105 … 109          all, by number

An epoch is at most a transaction of the bridge, 8 MB. What is held is bounded by `HELD_BYTES` all
the same; where that is reached, the replay ends with an error, because the epochs do not belong to
these frames.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from pipelines.kafka.messages import InputMessage
from pipelines.replay.window import Range

# Eight times what an epoch of today's bridge brings.
HELD_BYTES: Final = 64 * 1024 * 1024


class EpochsError(Exception):
    """The epochs do not tell the order of the frames."""


class Epoch(NamedTuple):
    """One transaction of the bridge, for one upstream.

    Attributes:
        host: the upstream.
        generation: how often the bridge had been started for it.
        seq_lo: lowest sequence number of its frames.
        seq_hi: highest one.
        received_us: when the frame with that was received, microseconds since 1970.
        next_offsets: for each partition of `frames`, an offset that every frame up to `seq_hi` is
            below.
    """

    host: str
    generation: int
    seq_lo: int
    seq_hi: int
    received_us: int
    next_offsets: tuple[int, ...]


def epoch_of(message: InputMessage) -> Epoch:
    """Takes a message of `epochs` apart.

    Args:
        message: its value is JSON, version 1.

    Raises:
        EpochsError: it is of another shape.
    """
    match _decoded(message.value):
        case {
            "host": str(host),
            "generation": int(generation),
            "seq_lo": int(seq_lo),
            "seq_hi": int(seq_hi),
            "received_us": int(received_us),
            "next_offsets": [*next_offsets],
        }:
            return Epoch(host, generation, seq_lo, seq_hi, received_us, tuple(next_offsets))
    raise EpochsError(
        f"epoch {message.offset} is not of version 1: use the version of standpipe that wrote it, "
        "or a newer one"
    )


def _decoded(value: bytes | None) -> Any:
    try:
        return orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None


class Held:
    """Frames that were read before their turn.

    Attributes:
        size_bytes: of their values; `HELD_BYTES` at most.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self._frames: list[tuple[int, int, InputMessage]] = []
        self._added_count = 0

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, seq: int, frame: InputMessage) -> None:
        """Keeps a frame.

        Args:
            seq: its number; of two with the same, the one that is added first comes first.
            frame: the message.

        Raises:
            EpochsError: there are too many already.
        """
        self.size_bytes += len(frame.value or b"")
        if self.size_bytes > HELD_BYTES:
            raise EpochsError(
                f"{len(self)} frames wait for their turn, as many as {HELD_BYTES} bytes: no epoch "
                f"lets them go, the lowest of them is number {self._frames[0][0]}; without --host "
                "frames come in the order of their time"
            )
        heapq.heappush(self._frames, (seq, self._added_count, frame))
        self._added_count += 1

    def release(self, seq_hi: int) -> Iterator[InputMessage]:
        """Yields all frames up to a number, in the order of their numbers, and keeps the rest."""
        while self._frames and self._frames[0][0] <= seq_hi:
            frame = heapq.heappop(self._frames)[2]
            self.size_bytes -= len(frame.value or b"")
            yield frame


@dataclass(slots=True)
class Numbers:
    """Which sequence numbers the epochs of an upstream have, and where the wanted ones are.

    An upstream may begin anew and use numbers twice, so all epochs have to be looked at.

    Attributes:
        host: the upstream.
        first_seq: first number wanted.
        last_seq: last number wanted; None for all that follow.
        hosts: all upstreams that have epochs.
        lowest_seq: of the host's first epoch; None before any.
        highest_seq: the highest one of the host; None before any.
        epochs: from the first epoch with a wanted number to behind the last one; None before any.
        starts: for each partition of `frames`, an offset that none of them is before; empty if
            they may be anywhere.
    """

    host: str
    first_seq: int
    last_seq: int | None
    hosts: set[str] = field(default_factory=set)
    lowest_seq: int | None = None
    highest_seq: int | None = None
    epochs: Range | None = None
    starts: tuple[int, ...] = ()
    _before: tuple[int, ...] = ()

    def add(self, offset: int, epoch: Epoch) -> None:
        """Looks at an epoch.

        Args:
            offset: of the epoch, rising.
            epoch: of any host.
        """
        self.hosts.add(epoch.host)
        if epoch.host != self.host:
            return
        if self.lowest_seq is None or self.highest_seq is None:
            self.lowest_seq = self.highest_seq = epoch.seq_lo
        self.highest_seq = max(self.highest_seq, epoch.seq_hi)
        is_late = self.last_seq is not None and epoch.seq_lo > self.last_seq
        if epoch.seq_hi >= self.first_seq and not is_late:
            if self.epochs is None:
                self.epochs, self.starts = Range(offset, offset), self._before
            self.epochs = Range(self.epochs.start, offset + 1)
        self._before = epoch.next_offsets
