"""What the page shows: the last message of each key counts, and readers get what changed."""

import random
from collections import Counter

import pytest

from pipelines.analytics.minutes import MINUTE_US, Cell, MinuteCount, Operations, minute_text
from pipelines.analytics.page import board as module
from pipelines.analytics.page.board import HOURS_SHOWN, LISTED_COUNT, MINUTES_SHOWN, Board
from pipelines.analytics.trending import TrendFollower
from pipelines.analytics.trends import HOUR_US, Trend
from pipelines.kafka.messages import Position

HOUR = 1_789_999_200_000_000
POSTS = "app.bsky.feed.post"


def count(minute_us: int, total: int, first_offset: int = 0, **fields: object) -> MinuteCount:
    cell = Cell(minute_us, str(fields.get("collection", POSTS)), str(fields.get("language", "en")))
    deletes = int(str(fields.get("deletes", 0)))
    operations = Operations(total - deletes, 0, deletes)
    return MinuteCount(cell, 0, first_offset, first_offset + total, operations)


class Post:
    collection, operation = POSTS, "create"

    def __init__(self, tag: str, received_us: int = HOUR, did: str = "did:plc:a") -> None:
        self.record, self.received_us, self.did = {"tags": [tag]}, received_us, did


def trend_of(posts: list[Post], partition: int = 0, first_offset: int = 0) -> Trend:
    follower = TrendFollower()
    follower.assign([partition])
    for offset, post in enumerate(posts, first_offset):
        follower.follow(POSTS, partition, offset, post)
    [trend] = follower.take_changes()[partition]
    return trend


def test_an_empty_board_has_nothing_to_say() -> None:
    board = Board()
    board.forget_old(HOUR)
    assert board.changes_since(0) == (0, {"minutes": {}, "hours": {}, "since": None})


def test_the_last_message_of_a_key_counts_in_any_order_of_keys() -> None:
    board = Board()
    choose = random.Random(7)
    last: dict[bytes, MinuteCount] = {}
    for _ in range(2_000):
        total = choose.randrange(1, 50)
        found = count(
            HOUR + choose.randrange(5) * MINUTE_US,
            total,
            choose.randrange(9),
            collection=choose.choice([POSTS, "other"]),
            language=choose.choice(["en", "ja", "und"]),
            deletes=choose.randrange(total),
        )
        last[found.key] = found
        board.add_minute(found)
    minutes = board.changes_since(0).value["minutes"]
    assert list(minutes) == [minute_text(HOUR + n * MINUTE_US) for n in range(5)]
    for minute, shown in minutes.items():
        true = [each for each in last.values() if minute_text(each.cell.minute_us) == minute]
        for name in ("collection", "language"):
            sums: Counter[str] = Counter()
            for each in true:
                sums[getattr(each.cell, name)] += each.operations.total_count
            assert shown[f"{name}s"] == sums
        assert shown["deletes"] == sum(each.operations.deletes_count for each in true)


def test_a_reader_gets_what_changed_since_it_asked() -> None:
    board = Board()
    board.add_minute(count(HOUR, 3))
    board.add_minute(count(HOUR + MINUTE_US, 4))
    known, _ = board.changes_since(0)
    assert board.changes_since(known).value["minutes"] == {}
    board.add_minute(count(HOUR + MINUTE_US, 5))
    board.add_trend(trend_of([Post("a")]))
    version, value = board.changes_since(known)
    assert version > known
    assert list(value["minutes"]) == [minute_text(HOUR + MINUTE_US)]
    assert value["minutes"][minute_text(HOUR + MINUTE_US)]["collections"] == {POSTS: 5}
    assert list(value["hours"]) == [minute_text(HOUR)]
    assert value["since"] == minute_text(HOUR)


def test_the_parts_of_an_hour_are_put_together_anew_when_one_changes() -> None:
    board = Board()
    board.add_trend(trend_of([Post("a"), Post("b", did="did:plc:b")]))
    board.add_trend(trend_of([Post("a", did="did:plc:c")], partition=1))
    [hour] = board.changes_since(0).value["hours"].values()
    assert (hour["records"], hour["accounts"]) == (3, 3)
    assert hour["hashtags"][0] == {"item": "a", "low": 2, "high": 2}
    board.add_trend(trend_of([Post("a"), Post("b"), Post("b"), Post("b")]))
    [hour] = board.changes_since(0).value["hours"].values()
    assert (hour["records"], hour["hashtags"][0]["item"]) == (5, "b")
    board.add_trend(trend_of([Post(f"t{n}") for n in range(LISTED_COUNT + 9)], partition=2))
    [hour] = board.changes_since(0).value["hours"].values()
    assert len(hour["hashtags"]) == LISTED_COUNT


def test_what_is_old_is_forgotten_and_stays_so() -> None:
    board = Board()
    for ago in range(MINUTES_SHOWN + 5):
        board.add_minute(count(HOUR - ago * MINUTE_US, 1))
    for ago in range(HOURS_SHOWN + 3):
        board.add_trend(trend_of([Post("a", HOUR - ago * HOUR_US)]))
    board.forget_old(HOUR + MINUTE_US - 1)
    board.add_minute(count(HOUR - MINUTES_SHOWN * MINUTE_US, 1))
    value = board.changes_since(0).value
    assert len(value["minutes"]) == MINUTES_SHOWN
    assert value["since"] == minute_text(HOUR - (MINUTES_SHOWN - 1) * MINUTE_US)
    assert len(value["hours"]) == HOURS_SHOWN


def test_with_too_many_counts_the_earliest_minute_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COUNTS", 10)
    board = Board()
    where: list[Position] = []
    for n in range(11):
        board.add_minute(count(HOUR + n % 2 * MINUTE_US, 1, first_offset=n))
        where.append((POSTS, n))
    assert list(board.changes_since(0).value["minutes"]) == [minute_text(HOUR + MINUTE_US)]
    # It does not come back in part.
    board.add_minute(count(HOUR, 1, first_offset=99))
    assert board.changes_since(0).value["since"] == minute_text(HOUR + MINUTE_US)
