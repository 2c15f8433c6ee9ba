"""The latest frames of an upstream, in memory, for all subscribers that are not behind. Pure.

A place in an upstream's order is where it can be gone on with: the next offset of `epochs` and of
every partition of `frames`, between two epochs. All readers of the same topics come by the same
places, so whoever has read up to one by itself takes the rest from here:

    epochs      12   13   14   15   16   17
    own reader  ─────────────►|                   its place: 15
    ring                 |════════════════►       first: 14, place: 17
    sent        12   13   14 | 15   16            each once
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from pipelines.kafka.messages import Position

# Half a minute of the network (350 frames/s of 5.5 kB).
RING_BYTES: Final = 64 * 1024 * 1024
# What a batch costs beside its frames: mostly its place.
_BATCH_BYTES: Final = 2_048
_FRAME_BYTES: Final = 160

Place: TypeAlias = Mapping[Position, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """The frames of an epoch.

    Attributes:
        end: offset of `epochs` behind it.
        place: where it is gone on from, that offset included.
        frames: sequence number and bytes of each, in order.
    """

    end: int
    place: Place
    frames: Sequence[tuple[int, bytes]]

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, roughly."""
        sizes = sum(len(frame) for _, frame in self.frames)
        return sizes + _FRAME_BYTES * len(self.frames) + _BATCH_BYTES


class Ring:
    """Batches one after the other, the oldest of which go.

    Attributes:
        first: offset of `epochs` from which on all frames are here.
        place: behind the newest.
        size_bytes: of the batches; passed by one of them at most.
    """

    def __init__(self, end: int, place: Place, max_bytes: int = RING_BYTES) -> None:
        """Has no frames yet.

        Args:
            end: offset of `epochs` where it begins.
            place: the place there.
            max_bytes: of all batches.
        """
        self.first = self._end = end
        self.place = place
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._batches: deque[Batch] = deque()

    @property
    def end(self) -> int:
        """Offset of `epochs` behind the newest."""
        return self._end

    def add(self, batch: Batch) -> None:
        """Adds the next batch, which may have no frames, and drops what is over the limit."""
        assert batch.end >= self._end
        self._end, self.place = batch.end, batch.place
        if not batch.frames:
            return
        self._batches.append(batch)
        self.size_bytes += batch.size_bytes
        while self.size_bytes > self._max_bytes and len(self._batches) > 1:
            dropped = self._batches.popleft()
            self.size_bytes -= dropped.size_bytes
            self.first = dropped.end

    def has(self, offset: int) -> bool:
        """Returns whether everything from an offset of `epochs` on is here."""
        return offset >= self.first

    def after(self, offset: int) -> Batch | None:
        """Returns the first batch behind an offset of `epochs`; None if it has not come yet.

        Args:
            offset: one that the ring has.
        """
        found = bisect_right(self._batches, offset, key=lambda batch: batch.end)
        return self._batches[found] if found < len(self._batches) else None
