"""What a position says, and when an index cannot be continued from it."""

from dataclasses import replace
from typing import Any

import pytest

from pipelines.consume.positions import USABLE_SHARE, Position, Span, Topics, problems

DAY_MS = 86_400_000
NOW_MS = 1_764_000_000_000
POSITION = Position(
    partition=1,
    partitions_count=2,
    collections=("app.bsky.feed.post",),
    topic_ids={"p.repos": "R", "p.latest.app.bsky.feed.post": "L"},
    next_offsets={"p.repos": 5, "p.latest.app.bsky.feed.post": 7},
    current_ms=NOW_MS - DAY_MS,
    is_complete=True,
)
TOPICS = Topics(
    partitions_count=2,
    collections=POSITION.collections,
    topic_ids=POSITION.topic_ids,
    spans={
        ("p.repos", 1): Span(0, 5),
        ("p.latest.app.bsky.feed.post", 1): Span(7, 9),
    },
    tombstone_life_ms=7 * DAY_MS,
)


@pytest.mark.parametrize("collections", [None, (), ("a.b.c", "d.e.f")])
def test_a_position_comes_back_from_its_text(collections: tuple[str, ...] | None) -> None:
    position = replace(POSITION, collections=collections)
    text = position.encode()
    assert "\n" not in text
    assert Position.parse(text) == position


@pytest.mark.parametrize(
    "text", ["", "null", "{}", POSITION.encode().replace('"version":1', '"version":2')]
)
def test_another_text_is_no_position(text: str) -> None:
    with pytest.raises(ValueError, match="position of version 1"):
        Position.parse(text)


def test_an_index_goes_on_where_it_is() -> None:
    assert list(problems(POSITION, TOPICS, NOW_MS)) == []


def test_a_topic_that_is_read_in_addition_is_no_problem() -> None:
    more = replace(TOPICS, topic_ids={**TOPICS.topic_ids, "p.latest.other": "O"})
    assert list(problems(POSITION, more, NOW_MS)) == []


def test_an_index_that_has_nothing_yet_misses_nothing_but_its_topics() -> None:
    begun = replace(POSITION, next_offsets={}, is_complete=False)
    assert list(problems(begun, TOPICS, NOW_MS)) == []
    other = replace(TOPICS, topic_ids={**TOPICS.topic_ids, "p.repos": "R2"})
    assert list(problems(begun, other, NOW_MS)) == ["p.repos was deleted and made anew"]


TOLD = "and that something was deleted is told for 24.0 h only (delete.retention.ms)"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"collections": None}, "it has app.bsky.feed.post, and all collections is wanted"),
        ({"partitions_count": 3}, "it is of topics with 2 partitions, and they have 3"),
        (
            {"topic_ids": {"p.repos": "R2", "p.latest.app.bsky.feed.post": "L"}},
            "p.repos was deleted and made anew",
        ),
        (
            {"topic_ids": {"p.repos": "R"}},
            "it is of another deployment, with a topic p.latest.app.bsky.feed.post",
        ),
        (
            {"spans": dict(TOPICS.spans) | {("p.repos", 1): Span(0, 4)}},
            "partition 1 of p.repos ends at offset 4, and it has read up to 5",
        ),
        (
            {"spans": dict(TOPICS.spans) | {("p.repos", 1): Span(6, 8)}},
            "partition 1 of p.repos begins at offset 6, and it has read up to 5",
        ),
        (
            {"tombstone_life_ms": DAY_MS},
            f"partition 1 was last complete at 2025-11-23 16:00:00+00:00, {TOLD}",
        ),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], problem: str) -> None:
    assert list(problems(POSITION, replace(TOPICS, **changes), NOW_MS)) == [problem]


def test_an_index_may_be_away_for_nearly_as_long_as_nulls_are_kept() -> None:
    usable_ms = int(7 * DAY_MS * USABLE_SHARE)
    assert not list(problems(POSITION, TOPICS, POSITION.current_ms + usable_ms))
    assert list(problems(POSITION, TOPICS, POSITION.current_ms + usable_ms + 1))
