"""The way of one partition's repositories from the spool to Kafka, slice by slice.

    chunks of A │ manifest of A, chunks of B │ more chunks of B │ manifest of B, …
                a transaction ends here

A manifest names the place of its chunks, which is known once they are committed: so it goes out
with the next slice, and nothing counts before it. One repository at a time. Pure, but for the
spool that is read.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from pipelines.kafka.messages import OutputMessage
from pipelines.repair.chunks import chunk_message
from pipelines.resync.downloads import Fetched

# Chunks of one transaction. Readers of the partition wait for its end.
SLICE_BYTES: Final = 4 * 1024 * 1024
# And of what has no chunks: some 500 bytes each.
SLICE_COUNT: Final = 1_000


class Place(NamedTuple):
    """Where the chunks of a repository are.

    Attributes:
        first_offset: from which offset on.
        end_offset: up to which, itself not included.
    """

    first_offset: int
    end_offset: int


# Makes what ends a job: the manifest, and what becomes of the job.
Answer: TypeAlias = Callable[[Fetched, Place], Sequence[OutputMessage]]
Small: TypeAlias = Callable[[], Sequence[OutputMessage]]


class Delivery:
    """What waits to be written to one partition."""

    def __init__(self, partition: int, chunks_topic: str, end_offset: int) -> None:
        """Starts empty.

        Args:
            partition: of all topics.
            chunks_topic: physical name of `chunks`.
            end_offset: where it ends there, behind what predecessors left.
        """
        self._partition = partition
        self._topic = chunks_topic
        self._end_offset = end_offset
        self._fetched: deque[Fetched] = deque()
        self._chunks: Iterator[bytes] | None = None  # of the first one, what is left
        self._first_offset = 0
        self._is_sent = False  # all its chunks have gone out
        self._small: deque[Small] = deque()

    @property
    def waiting_count(self) -> int:
        """How many repositories wait."""
        return len(self._fetched)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self._fetched and not self._small

    def add(self, fetched: Fetched) -> None:
        """Adds a repository, which is closed once it is written."""
        self._fetched.append(fetched)

    def add_small(self, make: Small) -> None:
        """Adds what is a message or two, made only when they are written: as things are then."""
        self._small.append(make)

    def next_slice(self, answer: Answer) -> list[OutputMessage]:
        """Returns what the next transaction is to write; the one before it has been committed.

        Args:
            answer: makes what ends a job, once its chunks are committed.

        Raises:
            SpoolError: the disk is broken.
        """
        outputs: list[OutputMessage] = []
        while self._small and len(outputs) < SLICE_COUNT:
            outputs += self._small.popleft()()
        size_bytes = 0
        while self._fetched and size_bytes < SLICE_BYTES:
            fetched = self._fetched[0]
            if self._chunks is None:
                self._chunks = fetched.spooled.file.read()
                self._first_offset = self._end_offset
                self._is_sent = fetched.spooled.file.count == 0
            if self._is_sent:
                place = Place(self._first_offset, self._end_offset)
                outputs += answer(fetched, place)
                self._pop().spooled.file.close()
                continue
            job, rev = fetched.start.job, fetched.spooled.verified.commit.rev
            for chunk in self._chunks:
                outputs.append(
                    chunk_message(
                        job.did, rev, chunk, fetched.fetched_us, self._partition, self._topic
                    )
                )
                size_bytes += len(chunk)
                if size_bytes >= SLICE_BYTES:
                    return outputs
            self._is_sent = True
            return outputs
        return outputs

    def committed(self, end_offset: int) -> None:
        """Notes where the chunks end now."""
        self._end_offset = end_offset

    def close(self) -> None:
        """Lets go of what waits."""
        while self._fetched:
            self._pop().spooled.file.close()

    def _pop(self) -> Fetched:
        self._chunks = None
        return self._fetched.popleft()
