"""Which collections have topics of their own, since which frame, and who says so. Pure.

The table of a deployment is configuration, and every worker has to have the same: else the
records of a collection would be in two places. So the table is in Kafka as well, in the topic
`admissions`: one message for each table there has been, numbered from 1. A worker whose own table
is not the newest one does not start.

    table 1   next_offsets 0 0 0 0          from the first frame on
    table 2   next_offsets 71 80 64 77      from there on, in each partition of `frames`
    table 3   next_offsets null             announced: nobody works until it is in force

The table of a frame is the newest one that begins at it or before, whenever it is judged: so a
restart, a frame that was parked, and a replay all give the same. How a change is made without a
worker missing it: `pipelines.kafka.admitting`.
"""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import orjson

from pipelines.kafka.messages import InputMessage
from pipelines.kafka.topics import OTHER

TOPIC: Final = "admissions"


def digest_of(collections: Collection[str]) -> str:
    """Returns the hash of a table: hexadecimal SHA-256 of its collections, sorted, a line each."""
    return hashlib.sha256(
        "".join(f"{nsid}\n" for nsid in sorted(collections)).encode()
    ).hexdigest()


class Table(NamedTuple):
    """One table.

    Attributes:
        number: from 1, in the order in which they were made.
        collections: those with topics of their own, sorted.
        next_offsets: for each partition of `frames`, the first offset of a frame that it is for;
            None if it is announced and not in force.
    """

    number: int
    collections: tuple[str, ...]
    next_offsets: tuple[int, ...] | None

    @property
    def key(self) -> bytes:
        """The message key."""
        return b"%d" % self.number


@dataclass(frozen=True)
class Admissions:
    """All tables of a deployment.

    Attributes:
        tables: those that are or were in force, from number 1.
        announced: one that is about to be; nobody may work meanwhile.
    """

    tables: tuple[Table, ...] = ()
    announced: Table | None = None

    @property
    def current(self) -> Table | None:
        """The newest table in force; None before the first."""
        return self.tables[-1] if self.tables else None

    @cached_property
    def ever(self) -> tuple[str, ...]:
        """Every collection that has or had topics of its own, sorted."""
        return tuple(sorted({nsid for table in self.tables for nsid in table.collections}))

    def homes_of(self, collection: str) -> tuple[str, ...]:
        """Returns where the records of a collection go, and where they went before.

        Args:
            collection: an NSID; compared exactly.

        Returns:
            Last parts of the names of topics in a family (`latest`), each once: that of the newest
            table, then the others.
        """
        homes = [
            collection if collection in table.collections else OTHER
            for table in reversed(self.tables)
        ]
        return tuple(dict.fromkeys(homes)) or (OTHER,)

    @cached_property
    def _newest_first(self) -> tuple[tuple[frozenset[str], tuple[int, ...]], ...]:
        return tuple(
            (frozenset(table.collections), table.next_offsets)
            for table in reversed(self.tables)
            if table.next_offsets is not None
        )

    def admits(self, collection: str, partition: int, offset: int) -> bool:
        """Tells whether the records in a frame go to a topic of their collection.

        Args:
            collection: an NSID; compared exactly.
            partition: of the frame, in `frames`.
            offset: of the frame.
        """
        for collections, next_offsets in self._newest_first:
            if offset >= next_offsets[partition]:
                return collection in collections
        raise AssertionError(f"no table is for the frame {partition}:{offset}")


def encode_table(table: Table, written_us: int) -> bytes:
    """Returns the message value of a table: JSON, version 1.

    Args:
        table: which one.
        written_us: now, microseconds since the epoch.
    """
    return orjson.dumps(
        {
            "number": table.number,
            "collections": table.collections,
            "sha256": digest_of(table.collections),
            "next_offsets": table.next_offsets,
            "written_us": written_us,
        }
    )


def parse_table(value: bytes) -> Table:
    """Takes a message value apart.

    Args:
        value: JSON, version 1.

    Raises:
        ValueError: it is of another shape, or its hash is not that of its collections.
    """
    fields = orjson.loads(value)
    match fields:
        case {
            "number": int(number),
            "collections": [*collections],
            "sha256": str(digest),
            "next_offsets": list() | None as next_offsets,
        } if number >= 1 and digest == digest_of(collections):
            offsets = None if next_offsets is None else tuple(next_offsets)
            return Table(number, tuple(collections), offsets)
    raise ValueError("not a table of version 1 with the hash of its collections")


def admissions_of(messages: Iterable[InputMessage]) -> Admissions:
    """Returns what the topic says.

    Args:
        messages: all of it, in order.

    Raises:
        ValueError: tables are missing, or one cannot be read.
    """
    tables: dict[bytes, Table] = {}
    for message in messages:
        assert message.key is not None
        if message.value is None:
            tables.pop(message.key, None)  # an announcement that was withdrawn
        else:
            tables[message.key] = parse_table(message.value)
    found = sorted(tables.values())
    if [table.number for table in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"its tables are {[table.number for table in found]}")
    announced = found.pop() if found and found[-1].next_offsets is None else None
    if any(table.next_offsets is None for table in found):
        raise ValueError("a table that was never in force is followed by another")
    return Admissions(tuple(found), announced)


def difference(old: Collection[str], new: Collection[str]) -> str:
    """Returns how a table differs from another, as `+a.b.c -d.e.f`."""
    added = [f"+{nsid}" for nsid in sorted(set(new) - set(old))]
    return " ".join([*added, *(f"-{nsid}" for nsid in sorted(set(old) - set(new)))])
