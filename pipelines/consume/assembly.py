"""What was read and is not in the index yet, and how far the index is with it. Pure.

Messages go in, in order within each partition of each topic; batches come out, each with the
positions that it leads to. Between a partition of one topic and the same of another there is no
order: `latest.*` may be read ahead of `repos` or behind it, by as much as is read at a time.

    noted      the ends of all topics, and the moment before they were asked for
    complete   everything before such ends is in the index, for the first time
    current    it is again: from then on nulls may be forgotten, but those since that moment
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pipelines.consume.changes import (
    AccountChanged,
    Change,
    account_change,
    collection_of,
    record_change,
)
from pipelines.consume.positions import Position, Topics
from pipelines.consume.selection import Selection
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.messages import Position as Place

# Of messages taken in for a batch; one message may pass it.
BATCH_BYTES: Final = 16 * 1024 * 1024
# Accounts whose last `AccountChanged` is remembered, some 300 bytes each. There is a message in
# `repos` for every commit, and nearly none of them changes anything for an index.
TOLD_COUNT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes, and the positions that go into the index with them, in one transaction.

    There may be none: the positions are stored all the same, since they say that the index is not
    old.

    Attributes:
        changes: in order for each record and each account.
        positions: for each partition that has moved, the text to store; in place of `before`.
        before: what the index has stored for these partitions, None for nothing. If it has
            anything else, another process writes this index, and this one has to end.
        is_complete: whether, with this batch, the index has everything that was there when it was
            begun.
        behind_count: messages at most that are still to be read to the ends last noted: at the
            start, then again when they were reached. 0 if they are reached.
    """

    changes: tuple[Change, ...]
    positions: Mapping[int, str]
    before: Mapping[int, str | None]
    is_complete: bool
    behind_count: int

    def __iter__(self) -> Iterator[Change]:
        """Yields the changes."""
        return iter(self.changes)


@dataclass(slots=True)
class _Partition:
    """One partition of all topics.

    Attributes:
        position: what the index has, once it has all batches that were taken.
        stored: its text; None if the index has none.
        next_offsets: how far was read.
        noted_ms: when the ends were noted; None if they are yet to be.
        ends: those that are not reached yet.
    """

    position: Position
    stored: str | None
    next_offsets: dict[str, int]
    noted_ms: int | None = None
    ends: dict[str, int] = field(default_factory=dict)

    def advance(self, topic: str, next_offset: int) -> None:
        self.next_offsets[topic] = max(next_offset, self.next_offsets[topic])
        if self.ends.get(topic, next_offset + 1) <= next_offset:
            del self.ends[topic]


class Assembly:
    """Makes batches of messages."""

    def __init__(
        self,
        positions: Mapping[int, Position],
        stored: Mapping[int, str],
        *,
        batch_count: int,
    ) -> None:
        """Begins where an index is.

        Args:
            positions: of its partitions; those of partitions that it does not have yet are at the
                beginning.
            stored: the texts of the others.
            batch_count: changes of a batch.
        """
        self._batch_count = batch_count
        self._partitions = {
            number: _Partition(position, stored.get(number), dict(position.next_offsets))
            for number, position in positions.items()
        }
        self._changes: list[Change] = []
        self._size_bytes = 0
        self._moved: set[int] = set()
        self._is_news = False
        self._told: OrderedDict[str, AccountChanged] = OrderedDict()

    @property
    def is_full(self) -> bool:
        """Whether a batch should be taken before more is added."""
        return len(self._changes) >= self._batch_count or self._size_bytes >= BATCH_BYTES

    @property
    def is_news(self) -> bool:
        """Whether a batch would have something to say; also that much was read in vain."""
        return self._is_news or bool(self._changes) or self.is_full

    @property
    def is_at_ends(self) -> bool:
        """Whether everything before the ends that were noted is read, or none were."""
        return all(partition.noted_ms is None for partition in self._partitions.values())

    @property
    def next_offsets(self) -> dict[Place, int]:
        """How far each partition of each topic was read."""
        return {
            (topic, number): offset
            for number, partition in self._partitions.items()
            for topic, offset in partition.next_offsets.items()
        }

    @property
    def positions(self) -> list[Position]:
        """Where the index is, once it has all batches that were taken."""
        return [partition.position for partition in self._partitions.values()]

    @property
    def oldest(self) -> Position:
        """The position that was current least recently."""
        return min(self.positions, key=lambda position: position.current_ms)

    def begin_topics(self, topics: Topics, noted_ms: int) -> None:
        """Takes topics in, and their ends; those that are read already go on where they are.

        Args:
            topics: all that are read.
            noted_ms: a moment before they were looked at, milliseconds since the epoch.
        """
        for number, partition in self._partitions.items():
            partition.position = replace(partition.position, topic_ids=dict(topics.topic_ids))
            for topic in topics.topic_ids:
                partition.next_offsets.setdefault(topic, topics.spans[topic, number].start)
        self.note_ends({where: span.end for where, span in topics.spans.items()}, noted_ms)

    def note_ends(self, ends: Mapping[Place, int], noted_ms: int) -> None:
        """Takes down what there is now.

        Args:
            ends: offset after the last message, for every partition of every topic that is read.
            noted_ms: a moment before the ends were asked for, milliseconds since the epoch.
        """
        for number, partition in self._partitions.items():
            partition.noted_ms = noted_ms
            partition.ends = {
                topic: ends[topic, number]
                for topic, next_offset in partition.next_offsets.items()
                if next_offset < ends[topic, number]
            }
            self._look(number)

    def add(self, message: InputMessage, selection: Selection) -> None:
        """Takes the next message of a partition.

        Args:
            message: one of a topic of the selection.
            selection: what is read.
        """
        if message.topic == selection.repos:
            self._tell(account_change(message))
        elif selection.has(collection_of(message)):
            change = record_change(message)
            if change is not None:
                self._changes.append(change)
        self._size_bytes += len(message.value or b"")
        self.reach(message.topic, message.partition, message.offset + 1)

    def reach(self, topic: str, number: int, next_offset: int) -> None:
        """Takes down that nothing is left before an offset.

        Args:
            topic: physical name.
            number: of the partition.
            next_offset: the offset.
        """
        partition = self._partitions[number]
        partition.advance(topic, next_offset)
        self._moved.add(number)
        self._look(number)

    def take(self) -> Batch:
        """Returns what came since the last batch."""
        before = {}
        positions = {}
        for number in sorted(self._moved):
            partition = self._partitions[number]
            partition.position = replace(
                partition.position, next_offsets=dict(partition.next_offsets)
            )
            before[number] = partition.stored
            positions[number] = partition.stored = partition.position.encode()
        batch = Batch(
            tuple(self._changes),
            positions,
            before,
            all(partition.position.is_complete for partition in self._partitions.values()),
            sum(
                end - partition.next_offsets[topic]
                for partition in self._partitions.values()
                for topic, end in partition.ends.items()
            ),
        )
        self._changes = []
        self._size_bytes = 0
        self._moved.clear()
        self._is_news = False
        return batch

    def _look(self, number: int) -> None:
        """Takes down that a partition has come to the ends that were noted."""
        partition = self._partitions[number]
        if partition.noted_ms is None or partition.ends:
            return
        partition.position = replace(
            partition.position, current_ms=partition.noted_ms, is_complete=True
        )
        partition.noted_ms = None
        self._moved.add(number)
        self._is_news = True

    def _tell(self, change: AccountChanged) -> None:
        if self._told.get(change.did) == change:
            self._told.move_to_end(change.did)
            return
        self._told[change.did] = change
        self._told.move_to_end(change.did)
        if len(self._told) > TOLD_COUNT:
            self._told.popitem(last=False)
        self._changes.append(change)
