"""The messages for one subscriber: where a cursor begins, and what comes from there on.

A cursor is a `time_us`, the time of arrival of a frame. What is written into the topic is not in
that order across partitions, or even within one: a worker that was down writes late, and what
waited for an account's identity very late. So a time alone does not tell what a subscriber has
seen. What does is that whatever it has not seen was committed after it saw the cursor, and the
mark that ends a transaction has the time of the commit. For each partition:

    looked up    the first message, or mark, with the cursor's time or a later one, less
                 `OVERLAP_MS`: before it there are only marks from before the cursor was sent
    gone back    from there to the beginning of the transaction it is in or ends: to the last
                 offset that is no message, which is a mark

What is undelivered in a partition lies behind the last mark from before, so it is sent, whatever
its own time is. What is sent again is what came in `OVERLAP_MS` before the cursor, what came
after it and was delivered, and the rest of one transaction for each partition.

It holds while clocks of bridge and broker differ by less than `OVERLAP_MS`.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from pipelines.config import KafkaConfig
from pipelines.kafka.messages import InputMessage, Position
from pipelines.kafka.reading import log_ends, log_starts, read_between
from pipelines.replay.ahead import Ahead, StoppedError
from pipelines.replay.selection import Selection
from pipelines.replay.sources import TimeOrder
from pipelines.replay.window import NO_END, Range
from pipelines.serving.jetstream_events import encode_event
from pipelines.serving.jetstream_options import Wanted

# How far the clocks of bridge and broker may be apart, with the time in which a message that is
# committed is also read.
OVERLAP_MS: Final = 10_000
# Of one subscriber, messages of partitions that run ahead of the others.
AHEAD_BYTES: Final = 8 * 1024 * 1024
# What is handed over at once; one event may pass it.
BATCH_BYTES: Final = 64 * 1024
# Messages that are looked at for it; a filter may pass none of them.
BATCH_COUNT: Final = 1_000
# A look back that finds no mark goes on with so many times more.
_LOOK_BACK_COUNT: Final = 100
_LOOK_BACK_FACTOR: Final = 10


def find_starts(
    kafka: KafkaConfig, wheres: Collection[Position], cursor_us: int | None
) -> dict[Position, int]:
    """Returns where a subscriber begins in each partition.

    Args:
        kafka: the cluster.
        wheres: the partitions.
        cursor_us: the last `time_us` it has seen, or the highest; None for none. One from before
            everything that is kept begins with the oldest message, one from the future at the end.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    ends = log_ends(kafka, wheres, is_readable=True)
    if cursor_us is None:
        return ends
    since = log_starts(kafka, wheres, max(0, cursor_us // 1000 - OVERLAP_MS))
    firsts = log_starts(kafka, wheres)
    found: dict[Position, int] = {}
    for where in wheres:
        offset = since[where]
        found[where] = ends[where] if offset is None else min(offset, ends[where])
    return _go_back(kafka, {where: first or 0 for where, first in firsts.items()}, found)


def last_rows(
    messages: Iterable[InputMessage], ends: Mapping[Position, int]
) -> dict[Position, int]:
    """Returns where the last row of messages without a gap begins, in front of an end.

    Args:
        messages: in order within each partition, none behind its end.
        ends: of each partition.

    Returns:
        Its first offset; the end itself where there is no message directly in front of it.
    """
    begins = dict(ends)
    nexts: dict[Position, int] = {}
    for message in messages:
        where = (message.topic, message.partition)
        if nexts.get(where) != message.offset:
            begins[where] = message.offset
        nexts[where] = message.offset + 1
    return {
        where: begins[where] if nexts.get(where) == end else end for where, end in ends.items()
    }


def _go_back(
    kafka: KafkaConfig, firsts: Mapping[Position, int], found: Mapping[Position, int]
) -> dict[Position, int]:
    starts = dict(found)
    left = {where: end for where, end in found.items() if end > firsts[where]}
    count = _LOOK_BACK_COUNT
    while left:
        lows = {where: max(firsts[where], end - count) for where, end in left.items()}
        starts |= last_rows(read_between(kafka, lows, left), left)
        left = {
            where: end
            for where, end in left.items()
            if starts[where] <= lows[where] > firsts[where]
        }
        count *= _LOOK_BACK_FACTOR
    return starts


class _Fresh:
    """Partitions of which none passes for ended because nobody has looked for a while."""

    def __init__(self, ahead: Ahead) -> None:
        self._ahead = ahead
        self.below = ahead.below
        self.take = ahead.take
        self.wait = ahead.wait

    def next(self, where: Position) -> InputMessage | None:
        self._ahead.wait(0)
        return self._ahead.next(where)


class Reader:
    """What comes for one subscriber. Its methods may be called from several threads."""

    def __init__(self, kafka: KafkaConfig, starts: Mapping[Position, int]) -> None:
        """Begins to read.

        Args:
            kafka: the cluster.
            starts: the partitions, and the first offset of each.
        """
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._ahead = Ahead(kafka, starts, self._stopping.is_set, max_bytes=AHEAD_BYTES)
        ranges = {where: Range(start, NO_END) for where, start in starts.items()}
        self._messages = iter(TimeOrder(_Fresh(self._ahead), ranges, Selection()))

    def read(self, wanted: Callable[[], Wanted]) -> list[bytes]:
        """Returns what comes next; waits for it a moment.

        Args:
            wanted: tells what is sent of it; asked for each message.

        Returns:
            JSON texts, also none.

        Raises:
            BrokerUnavailableError: the broker does not answer.
            OffsetLostError: messages were deleted before they could be read.
        """
        texts: list[bytes] = []
        size_bytes = 0
        with self._lock:
            if self._stopping.is_set():
                return []
            try:
                for _ in range(BATCH_COUNT):
                    message = next(self._messages)
                    if message is None:
                        break
                    for text in encode_event(message, wanted()):
                        texts.append(text)
                        size_bytes += len(text)
                    if size_bytes >= BATCH_BYTES:
                        break
            except StoppedError:
                return []
        return texts

    def close(self) -> None:
        """Ends reading, also for a thread that is about it."""
        self._stopping.set()
        with self._lock:
            self._ahead.close()
