"""The way of one partition's repositories from the spool to Kafka, slice by slice.

    chunks of A, B and C │ their manifests, chunks of D │ more chunks of D │ manifest of D, …
                         a transaction ends here

A manifest names the place of its chunks, which is known once they are committed: so it goes out
with the next slice, and nothing counts before it. Small repositories go together. Where each of
them is follows from where the partition ends then, if nobody else's messages came in between: a
predecessor that does not know yet that it is one may write some, which are aborted. That shows in
the end being too far; then the same repositories are written again, each alone, with its place
between two ends. Pure, but for the spool that is read.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from pipelines.kafka.messages import OutputMessage
from pipelines.repair.chunks import chunk_message
from pipelines.resync.downloads import Fetched

# Chunks of one transaction. Readers of the partition wait for its end.
SLICE_BYTES: Final = 4 * 1024 * 1024
# And of what is small: some 500 bytes each.
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
        self._small: deque[Small] = deque()
        self._fetched: deque[Fetched] = deque()
        self._places: deque[Place] = deque()  # of the first ones, whose chunks are committed
        # What the transaction under way has: repositories to their end, and chunks.
        self._sent_count = 0
        self._chunks_count = 0
        self._end_offset = end_offset
        self._marks_count = 0  # behind that end: each transaction leaves one
        # A repository that goes alone: the chunks that are left, and where they begin.
        self._alone: Iterator[bytes] | None = None
        self._left_count = 0
        self._first_offset = 0
        self._alone_count = 0  # how many of the next ones have to go alone

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
        while self._fetched and (self._places or not self._fetched[0].spooled.file.count):
            end = self._end_offset
            place = self._places.popleft() if self._places else Place(end, end)
            fetched = self._fetched.popleft()
            outputs += answer(fetched, place)
            fetched.spooled.file.close()
        chunks = self._chunks()
        self._chunks_count = len(chunks)
        return outputs + chunks

    def committed(self, end_offset: int) -> None:
        """Notes that the chunks of a slice are committed, and where they end now."""
        at = self._end_offset + self._marks_count
        is_gapless = at + self._chunks_count == end_offset
        self._end_offset, self._marks_count = end_offset, 1
        if self._alone is not None:
            if not self._left_count:
                self._places.append(Place(self._first_offset, end_offset))
                self._alone = None
            return
        counts = [f.spooled.file.count for f in islice(self._fetched, self._sent_count)]
        if is_gapless:
            for count in counts:
                self._places.append(Place(at, at + count))
                at += count
        else:
            self._alone_count = sum(count > 0 for count in counts)

    def close(self) -> None:
        """Lets go of what waits."""
        while self._fetched:
            self._fetched.popleft().spooled.file.close()

    def _chunks(self) -> list[OutputMessage]:
        """Returns the chunks of the next repositories, or the next ones of a large one."""
        outputs: list[OutputMessage] = []
        if self._alone is not None:
            return self._next_of(self._fetched[0], self._alone)
        self._sent_count = size_bytes = 0
        for fetched in self._fetched:
            file = fetched.spooled.file
            size_bytes += file.size_bytes
            if self._alone_count or size_bytes > SLICE_BYTES or self._sent_count == SLICE_COUNT:
                break
            outputs += self._messages(fetched, file.read())
            self._sent_count += 1
        if self._fetched and not outputs:
            first = self._fetched[0]
            self._alone_count = max(0, self._alone_count - 1)
            self._alone, self._left_count = first.spooled.file.read(), first.spooled.file.count
            self._first_offset = self._end_offset
            return self._next_of(first, self._alone)
        return outputs

    def _next_of(self, fetched: Fetched, chunks: Iterator[bytes]) -> list[OutputMessage]:
        """Returns the next chunks of a repository that goes alone."""
        outputs: list[OutputMessage] = []
        size_bytes = 0
        while self._left_count and size_bytes < SLICE_BYTES:
            chunk = next(chunks)
            self._left_count -= 1
            size_bytes += len(chunk)
            outputs += self._messages(fetched, [chunk])
        return outputs

    def _messages(self, fetched: Fetched, chunks: Iterable[bytes]) -> list[OutputMessage]:
        did, rev = fetched.start.job.did, fetched.spooled.verified.commit.rev
        return [
            chunk_message(did, rev, chunk, fetched.fetched_us, self._partition, self._topic)
            for chunk in chunks
        ]
