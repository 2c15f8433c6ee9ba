"""Messages of the topic minutes: to bytes and back, and what they add up to."""

import json
from pathlib import Path

import pytest

from pipelines.analytics.minutes import (
    Cell,
    MinuteCount,
    Operations,
    minute_of,
    minute_text,
    parse_minute_count,
    sum_by_cell,
)
from pipelines.kafka.topics import registry, validator

EXAMPLES = sorted(
    (Path(__file__).parents[2] / "schemas" / "examples" / "minutes" / "v1").iterdir()
)
COUNT = MinuteCount(
    Cell(1_790_000_040_000_000, "app.bsky.feed.post", "en"), 3, 17, 40, Operations(9, 1, 2)
)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_comes_back_as_it_was(file: Path) -> None:
    count = parse_minute_count(file.read_bytes())
    assert json.loads(count.value) == json.loads(file.read_text())


def test_a_message_is_as_the_contract_says() -> None:
    value = json.loads(COUNT.value)
    validator("minutes", 1).validate(value)
    assert parse_minute_count(COUNT.value) == COUNT
    parts = COUNT.key.decode().split("/")
    names = registry().specs["minutes"].key.content.split("/")
    assert dict(zip(names, parts, strict=True)) == {
        "minute": "2026-09-21T14:14:00Z",
        "collection": "app.bsky.feed.post",
        "language": "en",
        "partition": "3",
        "first_offset": "17",
    }


@pytest.mark.parametrize("value", [b"", b"null", b"[]", b"{}", b'{"minute": "yesterday"}', b"{"])
def test_anything_else_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_minute_count(value)


@pytest.mark.parametrize(
    ("time_us", "minute_us", "text"),
    [
        (0, 0, "1970-01-01T00:00:00Z"),
        (59_999_999, 0, "1970-01-01T00:00:00Z"),
        (60_000_000, 60_000_000, "1970-01-01T00:01:00Z"),
        (1_790_000_000_412_337, 1_789_999_980_000_000, "2026-09-21T14:13:00Z"),
    ],
)
def test_the_minute_of_a_time(time_us: int, minute_us: int, text: str) -> None:
    assert minute_of(time_us) == minute_us
    assert minute_text(minute_us) == text


def test_intervals_and_partitions_of_a_cell_add_up() -> None:
    more = COUNT._replace(first_offset=50, next_offset=51, operations=Operations(0, 0, 1))
    elsewhere = COUNT._replace(partition=0, operations=Operations(1, 1, 1))
    other_cell = COUNT._replace(cell=COUNT.cell._replace(language="mul"))
    assert sum_by_cell([COUNT, more, elsewhere, other_cell]) == {
        COUNT.cell: Operations(10, 2, 4),
        other_cell.cell: COUNT.operations,
    }
    assert Operations(10, 2, 4).total_count == 16
