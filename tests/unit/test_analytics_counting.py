"""Counting: each record once, in intervals of offsets, within named bounds of memory."""

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from pipelines.analytics import counting
from pipelines.analytics.counting import OPEN_MINUTES, MinuteCounter
from pipelines.analytics.languages import language_of
from pipelines.analytics.minutes import (
    MINUTE_US,
    Cell,
    MinuteCount,
    Operations,
    minute_of,
    sum_by_cell,
)
from pipelines.kafka.messages import Position

MINUTE = 1_790_000_040_000_000
POSTS, LIKES = "p.records.app.bsky.feed.post", "p.records.app.bsky.feed.like"
COLLECTIONS = {POSTS: "app.bsky.feed.post", LIKES: "app.bsky.feed.like"}
POSTS_0: Position = (POSTS, 0)


@dataclass(frozen=True)
class Record:
    received_us: int = MINUTE
    operation: str = "create"
    record: dict[str, Any] | None = None


def counter_of(*positions: Position) -> MinuteCounter:
    counter = MinuteCounter(COLLECTIONS)
    counter.assign(positions)
    return counter


def take(counter: MinuteCounter) -> list[MinuteCount]:
    return [count for changes in counter.take_changes().values() for count in changes.counts]


def test_a_count_grows_and_is_given_as_a_whole_each_time() -> None:
    counter = counter_of(POSTS_0)
    english = Record(record={"langs": ["en"]})
    cell = Cell(MINUTE, "app.bsky.feed.post", "en")
    counter.count(POSTS_0, 7, english)
    counter.count(POSTS_0, 9, english)  # 8 was a marker
    assert take(counter) == [MinuteCount(cell, 0, 7, 10, Operations(2, 0, 0))]
    assert take(counter) == []
    counter.count(POSTS_0, 10, Record(operation="update", record={"langs": ["en"]}))
    assert take(counter) == [MinuteCount(cell, 0, 7, 11, Operations(2, 1, 0))]


def test_changes_are_grouped_by_partition_with_their_positions() -> None:
    counter = counter_of(POSTS_0, (POSTS, 1), (LIKES, 1), (LIKES, 2))
    counter.count(POSTS_0, 4, Record())
    counter.count((POSTS, 1), 11, Record())
    counter.count((POSTS, 1), 12, Record(MINUTE + MINUTE_US))
    counter.count((LIKES, 1), 30, Record(operation="delete"))
    changes = counter.take_changes()
    assert {partition: each.next_offsets for partition, each in changes.items()} == {
        0: {POSTS_0: 5},
        1: {(POSTS, 1): 13, (LIKES, 1): 31},
    }
    assert [each.records_count for each in changes.values()] == [1, 3]
    assert {count.partition for count in changes[1].counts} == {1}
    assert counter.newest_us == MINUTE + MINUTE_US


def test_a_record_that_was_counted_is_not_counted_again() -> None:
    counter = counter_of(POSTS_0)
    for offset in (5, 6, 5, 6, 7):
        counter.count(POSTS_0, offset, Record())
    assert [count.operations.total_count for count in take(counter)] == [3]


def test_records_of_partitions_that_are_not_ours_are_left_out() -> None:
    counter = counter_of(POSTS_0)
    counter.count((POSTS, 1), 0, Record())
    assert counter.take_changes() == {}
    assert counter.newest_us is None


def test_partitions_that_are_taken_over_again_begin_with_nothing() -> None:
    counter = counter_of(POSTS_0)
    counter.count(POSTS_0, 5, Record())
    counter.assign([POSTS_0])
    assert counter.take_changes() == {}
    # Nobody committed it, so it comes again.
    counter.count(POSTS_0, 5, Record())
    assert [count.first_offset for count in take(counter)] == [5]


def test_a_late_record_of_a_closed_minute_opens_a_count_with_a_key_of_its_own() -> None:
    counter = counter_of(POSTS_0)
    for n in range(OPEN_MINUTES + 1):
        counter.count(POSTS_0, n, Record(MINUTE + n * MINUTE_US))
    counter.count(POSTS_0, 100, Record(MINUTE))
    counts = take(counter)
    of_first_minute = [count for count in counts if count.cell.minute_us == MINUTE]
    assert [(count.first_offset, count.next_offset) for count in of_first_minute] == [
        (0, 1),
        (100, 101),
    ]
    assert len({count.key for count in counts}) == len(counts) == OPEN_MINUTES + 2
    assert sum_by_cell(counts)[of_first_minute[0].cell] == Operations(2, 0, 0)


def test_the_minute_that_was_counted_least_recently_is_closed_first() -> None:
    counter = counter_of(POSTS_0)
    for n in range(OPEN_MINUTES):
        counter.count(POSTS_0, n, Record(MINUTE + n * MINUTE_US))
    counter.count(POSTS_0, 50, Record(MINUTE))
    counter.count(POSTS_0, 51, Record(MINUTE + 99 * MINUTE_US))  # closes the second minute
    counter.count(POSTS_0, 52, Record(MINUTE))
    counter.count(POSTS_0, 53, Record(MINUTE + MINUTE_US))
    firsts = {count.first_offset for count in take(counter)}
    assert 52 not in firsts
    assert 53 in firsts


def test_it_is_full_when_too_many_counts_wait_to_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MAX_CHANGED", 3)
    counter = counter_of(POSTS_0, (LIKES, 0))
    was_full = []
    for offset, (where, language) in enumerate(
        [(POSTS_0, "en"), (POSTS_0, "de"), (POSTS_0, "en"), ((LIKES, 0), "en")]
    ):
        was_full.append(counter.is_full)
        counter.count(where, offset, Record(record={"langs": [language]}))
    was_full.append(counter.is_full)
    counter.take_changes()
    was_full.append(counter.is_full)
    assert was_full == [False, False, False, False, True, False]


def test_the_last_minute_is_the_newest_that_is_over() -> None:
    counter = counter_of(POSTS_0, (LIKES, 2))
    assert counter.last_minute() is None
    counter.count(POSTS_0, 0, Record(record={"langs": ["en"]}))
    summary = counter.last_minute()
    assert summary is not None
    assert summary.minute_us == MINUTE
    counter.count(POSTS_0, 1, Record(record={"langs": ["ja"]}))
    counter.count((LIKES, 2), 8, Record(MINUTE + 59_999_999))
    counter.count((LIKES, 2), 9, Record(MINUTE + MINUTE_US))
    summary = counter.last_minute()
    assert summary is not None
    assert summary.minute_us == MINUTE
    assert summary.collections == {"app.bsky.feed.post": 2, "app.bsky.feed.like": 1}
    assert summary.languages == {"en": 1, "ja": 1, "und": 1}


def test_any_order_of_minutes_any_takes_and_any_repetition_add_up_to_the_truth() -> None:
    choose = random.Random(20260706)
    positions = [POSTS_0, (POSTS, 1), (LIKES, 0)]
    truth: Counter[tuple[Cell, str]] = Counter()
    published: dict[bytes, MinuteCount] = {}
    counter = MinuteCounter(COLLECTIONS)
    counter.assign(positions)
    committed = dict.fromkeys(positions, 0)
    logs: dict[Position, list[Record]] = {where: [] for where in positions}
    read = dict.fromkeys(positions, 0)
    for _ in range(5_000):
        where = choose.choice(positions)
        langs = choose.choice([None, ["en"], ["de"], ["en", "de"], ["xx"]])
        record = Record(
            MINUTE + choose.randrange(30) * MINUTE_US,
            choose.choice(["create", "update", "delete"]),
            {"langs": langs},
        )
        logs[where].append(record)
        cell = Cell(
            minute_of(record.received_us), COLLECTIONS[where[0]], language_of(record.record)
        )
        truth[cell, record.operation] += 1
        if choose.random() < 0.01:
            # A life ends, or Faust goes back: what is not committed is read again.
            read = dict(committed)
            if choose.random() < 0.7:
                counter.assign(positions)
        for each in positions:
            while read[each] < len(logs[each]):
                counter.count(each, read[each], logs[each][read[each]])
                read[each] += 1
        if choose.random() < 0.05:
            for changes in counter.take_changes().values():
                published |= {count.key: count for count in changes.counts}
                committed |= changes.next_offsets
    for changes in counter.take_changes().values():
        published |= {count.key: count for count in changes.counts}
    assert len(published) > len({count.cell for count in published.values()})
    assert sum_by_cell(published.values()) == {
        cell: Operations(*(truth[cell, operation] for operation in ("create", "update", "delete")))
        for cell in {cell for cell, _ in truth}
    }
