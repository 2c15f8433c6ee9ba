"""What hours are about: bounds that hold, parts that add up, within named limits of memory."""

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from pipelines.analytics.mentions import Kind
from pipelines.analytics.trending import ITEM_SHARE, OPEN_HOURS, HourSummary, TrendFollower
from pipelines.analytics.trends import (
    HOUR_US,
    MAX_LISTED_COUNT,
    Listing,
    Mention,
    Trend,
    most_frequent,
    parse_trend,
    sum_by_hour,
)

HOUR = 1_789_999_200_000_000
POST = "app.bsky.feed.post"


@dataclass(frozen=True)
class Record:
    did: str = "did:plc:a"
    collection: str = POST
    operation: str = "create"
    received_us: int = HOUR
    record: dict[str, Any] | None = None


def tagged(*tags: str, did: str = "did:plc:a", received_us: int = HOUR) -> Record:
    return Record(did, received_us=received_us, record={"tags": list(tags)})


def follower_of(*partitions: int) -> TrendFollower:
    follower = TrendFollower()
    follower.assign(partitions)
    return follower


def taken(follower: TrendFollower) -> list[Trend]:
    return [trend for trends in follower.take_changes().values() for trend in trends]


def test_an_hour_grows_and_is_given_as_a_whole_each_time() -> None:
    follower = follower_of(3)
    follower.follow(POST, 3, 7, tagged("cats", "dogs"))
    follower.follow("other", 3, 1, Record("did:plc:b", "com.example.x", record={"tags": ["cats"]}))
    [trend] = taken(follower)
    assert trend.key == b"2026-09-21T14:00:00Z/3/app.bsky.feed.post/7"
    assert (trend.records_count, round(trend.accounts.get_estimate())) == (2, 2)
    assert trend.listings[Kind.HASHTAGS].mentions == (Mention("cats", 1, 1), Mention("dogs", 1, 1))
    assert taken(follower) == []
    follower.follow(POST, 3, 8, tagged("dogs"))
    [grown] = taken(follower)
    assert grown.key == trend.key
    assert grown.listings[Kind.HASHTAGS].mentions == (Mention("dogs", 2, 2), Mention("cats", 1, 1))
    assert trend.records_count == 2


@pytest.mark.parametrize("operation", ["update", "delete"])
def test_only_what_is_new_mentions_something(operation: str) -> None:
    follower = follower_of(0)
    follower.follow(POST, 0, 0, Record(operation=operation, record={"tags": ["cats"]}))
    [trend] = taken(follower)
    assert trend.records_count == 1
    assert trend.listings[Kind.HASHTAGS] == Listing()


def test_a_message_is_read_as_it_was_written() -> None:
    follower = follower_of(0)
    for number in range(300):
        follower.follow(POST, 0, number, tagged(f"t{number % 7}", did=f"did:plc:{number}"))
    [trend] = taken(follower)
    read = parse_trend(trend.value)
    assert read.key == trend.key
    assert read.records_count == trend.records_count
    assert read.listings == trend.listings
    assert read.accounts.get_estimate() == trend.accounts.get_estimate()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"[]",
        b'{"hour":"2026-09-21T14:00:00Z","accounts_sketch":"AAAA"}',
        b'{"hour":"2026-09-21T14:00:00Z","accounts_sketch":"?"}',
    ],
    ids=repr,
)
def test_what_is_no_message_is_told(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_trend(value)


def test_parts_add_up_to_the_whole_however_it_is_cut() -> None:
    choose = random.Random(4)
    records = [
        tagged(f"t{int(choose.paretovariate(1))}", did=f"did:plc:{choose.randrange(5_000)}")
        for _ in range(20_000)
    ]
    parts: list[Trend] = []
    follower = follower_of(0, 1)
    for offset, record in enumerate(records):
        if choose.random() < 0.001:
            parts += taken(follower)
            follower.assign((0, 1))
        follower.follow(POST, choose.randrange(2), offset, record)
    parts += taken(follower)
    assert len({part.key for part in parts}) == len(parts) > 20
    [hour] = sum_by_hour(parse_trend(part.value) for part in parts).values()
    truth = Counter(record.record["tags"][0] for record in records if record.record)
    assert hour.records_count == len(records)
    accounts_count = len({record.did for record in records})
    assert abs(hour.accounts_count - accounts_count) < 0.06 * accounts_count
    listing = hour.listings[Kind.HASHTAGS]
    for mention in listing.mentions:
        assert mention.low <= truth[mention.item] <= mention.high
    unlisted = truth.keys() - {mention.item for mention in listing.mentions}
    assert max(truth[item] for item in unlisted) <= listing.unlisted_high
    assert listing.mentions[0].item == "t1"


def test_what_is_frequent_is_found_among_more_things_than_there_are_slots() -> None:
    follower = follower_of(0)
    total_count = 40_000
    frequent_count = total_count // ITEM_SHARE + 1
    tags = ["often"] * frequent_count + [f"t{n}" for n in range(total_count - frequent_count)]
    random.Random(1).shuffle(tags)
    for offset, tag in enumerate(tags):
        follower.follow(POST, 0, offset, tagged(tag))
    [trend] = taken(follower)
    listing = trend.listings[Kind.HASHTAGS]
    [often] = [mention for mention in listing.mentions if mention.item == "often"]
    assert often.low <= frequent_count <= often.high
    assert 1 <= listing.unlisted_high <= total_count / ITEM_SHARE
    assert all(mention.low <= 1 <= mention.high for mention in listing.mentions[1:])


def test_hours_that_are_open_are_few_and_a_late_record_opens_a_new_one() -> None:
    follower = follower_of(0)
    for hour in range(OPEN_HOURS + 1):
        follower.follow(POST, 0, hour, tagged("a", received_us=HOUR + hour * HOUR_US))
        taken(follower)
    follower.follow(POST, 0, 99, tagged("a"))
    [late] = taken(follower)
    assert (late.hour_us, late.first_offset, late.records_count) == (HOUR, 99, 1)


def test_the_newest_hour_of_all_partitions() -> None:
    follower = follower_of(0, 1)
    assert follower.newest_hour() is None
    follower.follow(POST, 0, 0, tagged(did="did:plc:old"))
    for partition in (0, 1):
        record = tagged(did=f"did:plc:{partition}", received_us=HOUR + HOUR_US)
        follower.follow(POST, partition, 5, record)
        follower.follow(POST, partition, 6, record)
    assert follower.newest_hour() == HourSummary(HOUR + HOUR_US, 2, 4)


def test_a_list_says_how_frequent_the_rest_may_be() -> None:
    mentions = [Mention(f"t{n:03}", 5, 9) for n in range(MAX_LISTED_COUNT)]
    assert most_frequent(mentions, 3) == Listing(tuple(mentions), 3)
    assert most_frequent([*mentions, Mention("x", 1, 6)], 3).unlisted_high == 6
    assert most_frequent([], 0) == Listing()
