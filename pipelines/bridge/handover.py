"""The bounded queue between the readers (asyncio) and the publisher (a thread).

Limits, and what happens when they are reached:

    HANDOVER_BYTES, HANDOVER_COUNT   the readers stop reading their sockets
    BATCH_BYTES, BATCH_COUNT         a transaction ends; the rest goes into the next one

The first two can be passed by one message of each upstream, the others by one message.
"""

import threading
from collections import deque
from typing import NamedTuple

from pipelines.bridge.intake import Duplicate, Entry, Publish, Quarantine, Skip
from pipelines.bridge.upstream import Handed, Origin

# Half a second of a relay that is catching us up as fast as we can read. The largest message has
# 16 MiB (`pipelines.bridge.socket`), so two of them fit.
HANDOVER_BYTES = 32 * 1024 * 1024
# Small messages: an entry costs some 500 bytes beside its message.
HANDOVER_COUNT = 20_000
BATCH_BYTES = 8 * 1024 * 1024
BATCH_COUNT = 1_000
# A transaction costs 16 ms and more however small it is: with ordinary traffic there is one in
# this time, which is also what it adds to the delay of a frame at most.
BATCH_INTERVAL_S = 0.1


class _Sized(NamedTuple):
    handed: Handed
    size_bytes: int


class Handover:
    """A queue with one writing thread (`put`), one reading (`take`), and no end but `close`."""

    def __init__(self) -> None:
        self._entries: deque[_Sized] = deque()
        self._size_bytes = 0
        self._lock = threading.Lock()
        # Set when a whole batch is there, or when nothing more will come.
        self._due = threading.Event()
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether the writer must wait. `put` does not refuse: the limits are the writer's."""
        return self._size_bytes >= HANDOVER_BYTES or len(self._entries) >= HANDOVER_COUNT

    @property
    def entries_count(self) -> int:
        """How many entries wait."""
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Sizes of the messages that wait, as they count against `HANDOVER_BYTES`."""
        return self._size_bytes

    def put(self, origin: Origin, entry: Entry) -> None:
        """Appends an entry; never blocks for long."""
        size_bytes = _size_bytes(entry)
        with self._lock:
            self._entries.append(_Sized(Handed(origin, entry), size_bytes))
            self._size_bytes += size_bytes
            if self._holds_batch():
                self._due.set()

    def close(self) -> None:
        """Says that nothing more will be put."""
        with self._lock:
            self._is_closed = True
            self._due.set()

    def take(self) -> list[Handed]:
        """Waits for the next batch and removes it.

        Returns:
            At least one entry, in the order in which they were put; nothing only when the queue is
            closed and empty.
        """
        while True:
            self._due.wait(BATCH_INTERVAL_S)
            with self._lock:
                batch = self._remove_batch()
                if batch or self._is_closed:
                    return batch

    def _remove_batch(self) -> list[Handed]:
        batch: list[Handed] = []
        batch_bytes = 0
        while self._entries and len(batch) < BATCH_COUNT and batch_bytes < BATCH_BYTES:
            handed, size_bytes = self._entries.popleft()
            batch.append(handed)
            batch_bytes += size_bytes
        self._size_bytes -= batch_bytes
        if not self._is_closed and not self._holds_batch():
            self._due.clear()
        return batch

    def _holds_batch(self) -> bool:
        return len(self._entries) >= BATCH_COUNT or self._size_bytes >= BATCH_BYTES


def _size_bytes(entry: Entry) -> int:
    match entry:
        case Publish():
            return len(entry.frame)
        case Quarantine():
            return len(entry.message)
        case Skip() | Duplicate():
            return 0
