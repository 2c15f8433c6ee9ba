"""The messages of a replay, in one order that is the same each time.

    by time    of all partitions, the message with the lowest timestamp comes next; each partition
               keeps its own order, and so does each account
    by host    the frames of one upstream, in its own order, which the epochs tell

Both yield None now and then, so that whoever reads them can act although nothing is wanted.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from pipelines.kafka.messages import InputMessage, Position
from pipelines.replay.epochs import Held, epoch_of
from pipelines.replay.pace import Pace
from pipelines.replay.selection import Selection, seq_of
from pipelines.replay.window import NO_END, Range

# Unwanted messages after which a source yields None.
PASSED_COUNT: Final = 1_000
_IDLE_S: Final = 0.2


class Partitions(Protocol):
    """Partitions that are read, each in its own order, as `Ahead` does."""

    def below(self, where: Position, end: int) -> InputMessage | None:
        """Returns the next message below an offset, and leaves it there; None if there is none."""

    def next(self, where: Position) -> InputMessage | None:
        """Returns the next message, and leaves it there; None at the partition's present end."""

    def take(self, where: Position) -> InputMessage:
        """Removes the next message, which is there, and returns it."""

    def wait(self, timeout_s: float) -> bool:
        """Waits until something came; returns whether it did."""


class Source(Protocol):
    """Wanted messages in order.

    Attributes:
        next_offsets: for each partition, the offset behind all that was yielded or passed over.
        read_count: messages that were yielded or passed over.
        is_whole: whether another source that starts there would go on in the same order.
    """

    next_offsets: dict[Position, int]
    read_count: int
    is_whole: bool

    def __iter__(self) -> Iterator[InputMessage | None]:
        """Yields messages that are wanted, and None."""


class TimeOrder:
    """Messages of several partitions, by timestamp.

    Of two with the same time, the one of the earlier partition in `ranges` comes first. One that
    is behind an older one in its partition comes directly after that.
    """

    def __init__(
        self,
        ahead: Partitions,
        ranges: Mapping[Position, Range],
        selection: Selection,
        pace: Pace | None = None,
    ) -> None:
        """Has read nothing yet.

        Args:
            ahead: reads these partitions from the beginnings of their ranges.
            ranges: what of them; ends of `NO_END` are followed for ever: from the present end of a
                partition on, nobody waits for it, and messages come as they are written.
            selection: what of that.
            pace: when each message is due; None for at once.
        """
        self.next_offsets = {where: start for where, (start, _) in ranges.items()}
        self.read_count = 0
        self.is_whole = True
        self._ahead = ahead
        self._ends = {where: end for where, (_, end) in ranges.items()}
        self._selection = selection
        self._pace = pace

    def __iter__(self) -> Iterator[InputMessage | None]:
        places = {where: index for index, where in enumerate(self._ends)}
        wheres: Sequence[Position] = tuple(self._ends)
        heads: list[tuple[int, int]] = []
        absent = list(wheres)
        passed_count = 0
        while heads or absent:
            still_absent = []
            for where in absent:
                message = self._head(where)
                if message is not None:
                    heapq.heappush(heads, (message.timestamp_ms, places[where]))
                elif self._ends[where] == NO_END:
                    still_absent.append(where)
                else:
                    self.next_offsets[where] = self._ends[where]
            absent = still_absent
            if not heads:
                if absent:
                    yield None
                    self._ahead.wait(_IDLE_S)
                continue
            time_ms, place = heapq.heappop(heads)
            where = wheres[place]
            if self._pace is not None:
                yield from self._pace.wait_for(time_ms)
            message = self._ahead.take(where)
            absent.append(where)
            self.next_offsets[where] = message.offset + 1
            self.read_count += 1
            if self._selection.takes(message):
                passed_count = 0
                yield message
            else:
                passed_count += 1
                if passed_count % PASSED_COUNT == 0:
                    yield None

    def _head(self, where: Position) -> InputMessage | None:
        end = self._ends[where]
        return self._ahead.next(where) if end == NO_END else self._ahead.below(where, end)


class HostOrder:
    """The frames of one upstream, by epoch and number.

    Frames that no epoch names yet are not yielded. With an end of `NO_END` the epochs are followed
    for ever.
    """

    def __init__(
        self,
        ahead: Partitions,
        epochs: Position,
        ranges: Mapping[Position, Range],
        selection: Selection,
        host: str,
        pace: Pace | None = None,
    ) -> None:
        """Has read nothing yet.

        Args:
            ahead: reads these partitions from the beginnings of their ranges.
            epochs: the topic and partition of the epochs.
            ranges: what of the epochs, and of those partitions of `frames` that are wanted.
                Frames are read as far as the epochs go, whatever the ends of theirs.
            selection: what of that.
            host: the upstream.
            pace: when the frames of each epoch are due; None for at once.
        """
        self.next_offsets = {where: start for where, (start, _) in ranges.items()}
        self.read_count = 0
        self.is_whole = True
        self._ahead = ahead
        self._epochs = epochs
        self._end = ranges[epochs].end
        self._frames = {where[1]: where for where in ranges if where != epochs}
        self._selection = selection
        self._host = host
        self._pace = pace
        self._held = Held()

    def __iter__(self) -> Iterator[InputMessage | None]:
        is_following = self._end == NO_END
        while True:
            message = self._next_epoch()
            if message is None:
                if not is_following:
                    break
                yield None
                self._ahead.wait(_IDLE_S)
                continue
            epoch = epoch_of(message)
            is_ours = epoch.host == self._host
            if is_ours and self._pace is not None:
                yield from self._pace.wait_for(epoch.received_us // 1000)
            self._ahead.take(self._epochs)
            if is_ours:
                self._read_up_to(epoch.next_offsets)
                self.is_whole = False
                yield from self._held.release(epoch.seq_hi)
            self.next_offsets[self._epochs] = message.offset + 1
            self.is_whole = not self._held
            yield None
        self.next_offsets[self._epochs] = self._end

    def _next_epoch(self) -> InputMessage | None:
        if self._end == NO_END:
            return self._ahead.next(self._epochs)
        return self._ahead.below(self._epochs, self._end)

    def _read_up_to(self, next_offsets: Sequence[int]) -> None:
        for partition, end in enumerate(next_offsets):
            where = self._frames.get(partition)
            if where is None:
                continue
            while (message := self._ahead.below(where, end)) is not None:
                self._ahead.take(where)
                self.next_offsets[where] = message.offset + 1
                self.read_count += 1
                if self._selection.takes(message):
                    seq = seq_of(message)
                    assert seq is not None  # every frame of a host has one
                    self._held.add(seq, message)
