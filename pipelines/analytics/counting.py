"""Counts records by minute, collection and language. Pure: no Faust, no clock, no Kafka.

Each partition of a record topic is counted by itself. What is counted there is an interval of
offsets without holes: a record below `next_offset` was counted before, and is not counted again.
A counter starts where the last committed position is, with nothing, and opens a new count for
each cell that it meets. So the counts of different lives of a process, or of different processes,
are about different intervals, and adding them up is exact.

    record ─► MinuteCounter.count ─► open cells ─► take_changes ─► one transaction a partition

The two bounds of memory:

    OPEN_MINUTES     minutes of a partition whose counts still grow; with more, the one that was
                     counted least recently is closed, and a record that comes for it later opens
                     a new count with a key of its own
    MAX_CHANGED      counts that changed since they were last taken; the caller asks `is_full` and
                     takes them before it counts on

A minute of a partition has at most `len(languages.CODES) + 3` cells, since both names come from
closed sets.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pipelines.analytics.languages import language_of
from pipelines.analytics.minutes import Cell, MinuteCount, Operations, minute_of
from pipelines.analytics.trends import Trend
from pipelines.kafka.messages import Position

# Of one partition. The bridge's clock hardly ever runs back; several upstreams, of which one was
# held up, and replays bring old minutes among new ones.
OPEN_MINUTES: Final = 10
# Of a process. A few hundred change in a second; as many as this take some 20 MB and a second or
# two to publish.
MAX_CHANGED: Final = 20_000

_OPERATIONS: Final = {"create": 0, "update": 1, "delete": 2}  # places in `Operations`


class CountedRecord(Protocol):
    """What is counted of a record message; `records.Record` is one."""

    @property
    def operation(self) -> str:
        """What the commit did to the record: create, update or delete."""

    @property
    def received_us(self) -> int:
        """When the bridge received it, microseconds since the epoch."""

    @property
    def record(self) -> Mapping[str, Any] | None:
        """The record, or None where there is none or it has no JSON."""


@dataclass(slots=True)
class Changes:
    """What changed in one partition number of all record topics since the last time.

    Attributes:
        records_count: records counted since then.
        counts: every count that changed, as a whole.
        trends: every hour that changed, likewise; `trending` tells.
        next_offsets: for each topic counted, the offset after the last record.
    """

    records_count: int = 0
    counts: list[MinuteCount] = field(default_factory=list)
    trends: list[Trend] = field(default_factory=list)
    next_offsets: dict[Position, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MinuteSummary:
    """The numbers of one minute in the partitions of one process.

    Attributes:
        minute_us: which minute, microseconds since the epoch.
        collections: records by collection.
        languages: records by language, where they name one.
    """

    minute_us: int
    collections: Mapping[str, int]
    languages: Mapping[str, int]


class MinuteCounter:
    """Counts the partitions that are assigned to one process.

    Attributes:
        newest_us: when the newest record was received, microseconds since the epoch; or None.
    """

    def __init__(self, collections: Mapping[str, str]) -> None:
        """Starts without any partition.

        Args:
            collections: name under which its records are counted, by physical topic.
        """
        self._collections = collections
        self._sources: dict[Position, _Source] = {}
        self._changed_count = 0
        self.newest_us: int | None = None

    def assign(self, positions: Iterable[Position]) -> None:
        """Takes over partitions, from their committed positions on; forgets all others.

        What was counted and not taken is forgotten, too: it was not committed, so whoever owns
        the partition reads it again.
        """
        self._sources = {where: _Source(self._collections[where[0]], where) for where in positions}
        self._changed_count = 0

    @property
    def is_full(self) -> bool:
        """Whether the changes have to be taken before more is counted."""
        return self._changed_count >= MAX_CHANGED

    def count(self, where: Position, offset: int, record: CountedRecord) -> bool:
        """Counts one record; the records of a partition come in order.

        Args:
            where: physical topic and partition of the record message.
            offset: its offset there.
            record: its value.

        Returns:
            Whether it counts: one that was counted before, or whose partition belongs to somebody
            else, is left out.
        """
        source = self._sources.get(where)
        if source is None or offset < source.next_offset:
            return False
        self._changed_count += source.count(offset, record)
        self.newest_us = max(self.newest_us or 0, record.received_us)
        return True

    def take_changes(self) -> dict[int, Changes]:
        """Returns what changed since the last call, by partition; it has to be committed now.

        After a commit that failed only `assign` may follow: the counts would go on from numbers
        that nobody can read.
        """
        changes: dict[int, Changes] = {}
        for where, source in self._sources.items():
            if source.changed:
                source.take_changes(into=changes.setdefault(where[1], Changes()))
        self._changed_count = 0
        return changes

    def last_minute(self) -> MinuteSummary | None:
        """Returns the newest minute that is over, or else the newest; None without a record."""
        minutes = {minute_us for source in self._sources.values() for minute_us in source.minutes}
        if not minutes:
            return None
        minute_us = sorted(minutes)[-2:][0]
        collections: Counter[str] = Counter()
        languages: Counter[str] = Counter()
        for source in self._sources.values():
            for language, count in source.minutes.get(minute_us, {}).items():
                collections[source.collection] += sum(count.operations)
                languages[language] += sum(count.operations)
        return MinuteSummary(minute_us, collections, languages)


class _Count:
    """A count that may still grow."""

    __slots__ = ("cell", "first_offset", "next_offset", "operations")

    def __init__(self, cell: Cell, first_offset: int) -> None:
        self.cell = cell
        self.first_offset = first_offset
        self.next_offset = first_offset
        self.operations = [0, 0, 0]  # in the order of `Operations`

    def message(self, partition: int) -> MinuteCount:
        operations = Operations(*self.operations)
        return MinuteCount(self.cell, partition, self.first_offset, self.next_offset, operations)


class _Source:
    """One partition of one record topic."""

    def __init__(self, collection: str, where: Position) -> None:
        self.collection = collection
        self.next_offset = 0
        # minute → language → count; the minute that was counted least recently comes first.
        self.minutes: dict[int, dict[str, _Count]] = {}
        # By first offset, which tells counts of one cell apart.
        self.changed: dict[int, _Count] = {}
        self._new_count = 0
        self._where = where

    def count(self, offset: int, record: CountedRecord) -> bool:
        """Counts a new record; returns whether there is one more count that changed."""
        minute_us = minute_of(record.received_us)
        minute = self.minutes.pop(minute_us, {})
        self.minutes[minute_us] = minute
        if len(self.minutes) > OPEN_MINUTES:
            del self.minutes[next(iter(self.minutes))]
        language = language_of(record.record)
        count = minute.get(language)
        if count is None:
            count = minute[language] = _Count(Cell(minute_us, self.collection, language), offset)
        count.operations[_OPERATIONS[record.operation]] += 1
        count.next_offset = self.next_offset = offset + 1
        self._new_count += 1
        is_new = count.first_offset not in self.changed
        self.changed[count.first_offset] = count
        return is_new

    def take_changes(self, *, into: Changes) -> None:
        """Adds what changed since the last time, as it is now."""
        into.records_count += self._new_count
        into.next_offsets[self._where] = self.next_offset
        into.counts += (count.message(self._where[1]) for count in self.changed.values())
        self._new_count = 0
        self.changed = {}
