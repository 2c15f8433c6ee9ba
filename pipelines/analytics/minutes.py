"""A message of the topic `minutes`: how many records a minute brought, to bytes and back. Pure.

The form of a message is that of `schemas/json/minutes/`. One message counts an interval of
offsets of one partition; the numbers of a minute are the sum over its messages.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import orjson

TOPIC: Final = "minutes"
MINUTE_US: Final = 60_000_000


class Cell(NamedTuple):
    """What is counted together.

    Attributes:
        minute_us: start of the minute, microseconds since the epoch.
        collection: its NSID where it has a record topic of its own, else `other`.
        language: a name as `languages.language_of` gives it.
    """

    minute_us: int
    collection: str
    language: str


class Operations(NamedTuple):
    """How many records were created, updated and deleted."""

    creates_count: int = 0
    updates_count: int = 0
    deletes_count: int = 0

    @property
    def total_count(self) -> int:
        """All of them."""
        return sum(self)


class MinuteCount(NamedTuple):
    """One message: what an interval of offsets of one partition brought to a cell.

    Attributes:
        cell: what was counted.
        partition: of the record topic, and of the message.
        first_offset: of the first record counted.
        next_offset: after the last record counted.
        operations: how many.
    """

    cell: Cell
    partition: int
    first_offset: int
    next_offset: int
    operations: Operations

    @property
    def key(self) -> bytes:
        """The message key, under which a later message replaces this one."""
        minute_us, collection, language = self.cell
        minute = minute_text(minute_us)
        return f"{minute}/{collection}/{language}/{self.partition}/{self.first_offset}".encode()

    @property
    def value(self) -> bytes:
        """The message value."""
        return orjson.dumps(
            {
                "minute": minute_text(self.cell.minute_us),
                "collection": self.cell.collection,
                "language": self.cell.language,
                "partition": self.partition,
                "first_offset": self.first_offset,
                "next_offset": self.next_offset,
                "creates": self.operations.creates_count,
                "updates": self.operations.updates_count,
                "deletes": self.operations.deletes_count,
            }
        )


def parse_minute_count(value: bytes) -> MinuteCount:
    """Returns what a message value says.

    Raises:
        ValueError: it is no message of the topic.
    """
    try:
        fields = orjson.loads(value)
        return MinuteCount(
            cell=Cell(parse_time(fields["minute"]), fields["collection"], fields["language"]),
            partition=fields["partition"],
            first_offset=fields["first_offset"],
            next_offset=fields["next_offset"],
            operations=Operations(fields["creates"], fields["updates"], fields["deletes"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a message of the topic {TOPIC}: {error}") from None


def sum_by_cell(counts: Iterable[MinuteCount]) -> dict[Cell, Operations]:
    """Adds up the intervals of each cell.

    Args:
        counts: the last message of each key.
    """
    sums: dict[Cell, Operations] = {}
    for count in counts:
        before = sums.get(count.cell, Operations())
        both = zip(before, count.operations, strict=True)
        sums[count.cell] = Operations(*(one + other for one, other in both))
    return sums


def minute_of(time_us: int) -> int:
    """Returns the start of the minute that a time lies in; both microseconds since the epoch."""
    return time_us - time_us % MINUTE_US


def minute_text(minute_us: int) -> str:
    """Returns a time as the messages have it, such as `2026-09-21T14:13:00Z`."""
    return f"{datetime.fromtimestamp(minute_us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def parse_time(text: str) -> int:
    """Returns the time that `minute_text` wrote, microseconds since the epoch.

    Raises:
        ValueError: it is no time.
    """
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000
