"""Follows what the hours are about: frequent mentions and distinct accounts. Pure.

As with the minutes (`counting`), a life of a process starts with nothing at the last committed
position, so what different lives followed adds up without a record counted twice. Both sketches
are those of Apache DataSketches: frequent items tell for each item at least and at most how often
it came, within a fixed number of slots; HyperLogLog estimates the number of distinct accounts.

The bounds of memory, for each partition number:

    OPEN_HOURS       hours that still grow; with more, the one that was added to least recently is
                     closed, and a record that comes for it later opens a new one, with its own key
    ITEMS_LG_SLOTS   items followed of each kind in an hour: three quarters of the slots, each a
                     text of `mentions.MAX_MENTION_BYTES` at most. What came more often than one
                     in `ITEM_SHARE` of all is surely among them
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import datasketches
from datasketches import frequent_items_error_type, frequent_strings_sketch, hll_sketch

from pipelines.analytics.counting import CountedRecord
from pipelines.analytics.mentions import Kind, mentions_of
from pipelines.analytics.trends import (
    ACCOUNTS_LG_K,
    Listing,
    Mention,
    Trend,
    hour_of,
    most_frequent,
)

OPEN_HOURS: Final = 3
ITEMS_LG_SLOTS: Final = 12
# Of the sketch's documentation: an item's bounds are at most 3.5 / slots of all mentions apart.
ITEM_SHARE: Final = 2**ITEMS_LG_SLOTS * 2 // 7


class FollowedRecord(CountedRecord, Protocol):
    """What is looked at of a record message; `records.Record` is one."""

    @property
    def did(self) -> str:
        """The repository."""

    @property
    def collection(self) -> str:
        """NSID of its collection."""


@dataclass(frozen=True, slots=True)
class HourSummary:
    """The numbers of one hour in the partitions of one process.

    Attributes:
        hour_us: which hour, microseconds since the epoch.
        accounts_count: distinct accounts, estimated.
        records_count: records.
    """

    hour_us: int
    accounts_count: int
    records_count: int


class TrendFollower:
    """Follows the partition numbers that are assigned to one process."""

    def __init__(self) -> None:
        self._hours: dict[int, dict[int, _Hour]] = {}

    def assign(self, partitions: Iterable[int]) -> None:
        """Takes over partition numbers, with nothing; forgets everything else."""
        self._hours = {partition: {} for partition in partitions}

    def follow(self, name: str, partition: int, offset: int, record: FollowedRecord) -> None:
        """Adds one record, which must not have been added before.

        Args:
            name: that of its topic: its collection, or `other`.
            partition: an assigned one.
            offset: its offset there.
            record: its value.
        """
        hours = self._hours[partition]
        hour_us = hour_of(record.received_us)
        hour = hours.pop(hour_us, None)
        hours[hour_us] = hour = hour or _Hour(_Origin(hour_us, partition, name, offset))
        if len(hours) > OPEN_HOURS:
            del hours[next(iter(hours))]
        hour.add(record)

    def take_changes(self) -> dict[int, list[Trend]]:
        """Returns every hour that changed since the last call, as a whole, by partition."""
        changes: dict[int, list[Trend]] = {}
        for partition, hours in self._hours.items():
            if changed := [hour.take() for hour in hours.values() if hour.has_changed]:
                changes[partition] = changed
        return changes

    def newest_hour(self) -> HourSummary | None:
        """Returns the numbers of the newest hour; None without a record."""
        newest_us = max(
            (hour_us for hours in self._hours.values() for hour_us in hours), default=0
        )
        parts = [hours[newest_us] for hours in self._hours.values() if newest_us in hours]
        if not parts:
            return None
        # An account is in one partition.
        accounts = sum(hour.accounts.get_estimate() for hour in parts)
        return HourSummary(newest_us, round(accounts), sum(hour.records_count for hour in parts))


@dataclass(frozen=True, slots=True)
class _Origin:
    """The hour, and the first record of a message."""

    hour_us: int
    partition: int
    name: str
    first_offset: int


class _Hour:
    """An hour of one partition number that may still grow."""

    def __init__(self, origin: _Origin) -> None:
        self.accounts = hll_sketch(ACCOUNTS_LG_K, datasketches.tgt_hll_type.HLL_4)
        self.has_changed = False
        self._origin = origin
        self.records_count = 0
        self._items = {kind: _Items() for kind in Kind}

    def add(self, record: FollowedRecord) -> None:
        self.has_changed = True
        self.records_count += 1
        self.accounts.update(record.did)
        # An edit of a post says again what the post said; a like is never edited.
        if record.operation == "create":
            for kind, texts in mentions_of(record.collection, record.record).items():
                self._items[kind].add(texts)

    def take(self) -> Trend:
        """Returns the hour as it is now."""
        self.has_changed = False
        return Trend(
            hour_us=self._origin.hour_us,
            partition=self._origin.partition,
            collection=self._origin.name,
            first_offset=self._origin.first_offset,
            records_count=self.records_count,
            # A copy: this one goes on.
            accounts=hll_sketch.deserialize(self.accounts.serialize_compact()),
            listings={kind: items.listing() for kind, items in self._items.items()},
        )


class _Items:
    """How often things of one kind were mentioned."""

    def __init__(self) -> None:
        self._sketch = frequent_strings_sketch(ITEMS_LG_SLOTS)
        self._listing: Listing | None = Listing()

    def add(self, texts: Iterable[str]) -> None:
        for text in texts:
            self._sketch.update(text)
        self._listing = None

    def listing(self) -> Listing:
        """Returns the list as it is now; most seconds bring nothing new to most of them."""
        if self._listing is None:
            found = self._sketch.get_frequent_items(frequent_items_error_type.NO_FALSE_NEGATIVES)
            mentions = [Mention(item, low, high) for item, _, low, high in found]
            # What has no slot is bounded like any text that never came.
            self._listing = most_frequent(mentions, self._sketch.get_upper_bound(""))
        return self._listing
