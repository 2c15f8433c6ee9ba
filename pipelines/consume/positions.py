"""How far an index has come in one partition of the topics, and whether it can go on. Pure.

A position goes into the index itself, as text, in the transaction of the changes before it.

Two things make it worthless: the topics are not the ones any more that it is of, or the index was
away for so long that nulls may be gone which it has not read. A null is kept for
`delete.retention.ms`, counted from when it took the place of its record. An index that has
everything of before some moment misses none of the nulls of records it has, as long as it comes to
the ends of its topics within that time after it; also in its first run, which begins with nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

import orjson

from pipelines.kafka.messages import Position as Place

_VERSION: Final = 1
# Of the nulls' life: for clocks that differ.
USABLE_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class Position:
    """A position.

    Attributes:
        partition: the number, the same in every topic.
        partitions_count: of each topic.
        collections: those that the index has, sorted; None for all.
        topic_ids: the cluster's ids of the topics, by physical name. One that was deleted and made
            anew has another.
        next_offsets: by physical name, the offset after the last message that is in the index.
        current_ms: the last moment of which everything in the topics is known to be in the index,
            milliseconds since the epoch; before the first, when the index was begun.
        is_complete: whether there was such a moment.
    """

    partition: int
    partitions_count: int
    collections: tuple[str, ...] | None
    topic_ids: Mapping[str, str]
    next_offsets: Mapping[str, int]
    current_ms: int
    is_complete: bool

    def encode(self) -> str:
        """Returns the text that an index stores: one line of JSON, some 100 bytes for a topic."""
        return orjson.dumps(
            {
                "version": _VERSION,
                "partition": self.partition,
                "partitions": self.partitions_count,
                "collections": self.collections,
                "topics": {
                    topic: [self.topic_ids[topic], offset]
                    for topic, offset in self.next_offsets.items()
                },
                "current_ms": self.current_ms,
                "complete": self.is_complete,
            }
        ).decode()

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Takes such a text apart.

        Raises:
            ValueError: it is of another shape.
        """
        try:
            fields = orjson.loads(text)
        except orjson.JSONDecodeError:
            fields = None
        match fields:
            case {
                "version": 1,
                "partition": int(partition),
                "partitions": int(partitions_count),
                "collections": list() | None as collections,
                "topics": dict(topics),
                "current_ms": int(current_ms),
                "complete": bool(is_complete),
            }:
                return cls(
                    partition,
                    partitions_count,
                    None if collections is None else tuple(collections),
                    {topic: topic_id for topic, (topic_id, _) in topics.items()},
                    {topic: offset for topic, (_, offset) in topics.items()},
                    current_ms,
                    is_complete,
                )
        raise ValueError("not a position of version 1")


class Span(NamedTuple):
    """What a partition of a topic has.

    Attributes:
        start: offset of the first message that there is.
        end: offset after the last one.
    """

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Topics:
    """What an index is to be continued with.

    Attributes:
        partitions_count: of each topic.
        collections: those that are wanted, sorted; None for all.
        topic_ids: the cluster's ids of the topics, by physical name.
        spans: what there is, by physical name and partition.
        tombstone_life_ms: `delete.retention.ms` of the topics, the shortest of them.
    """

    partitions_count: int
    collections: tuple[str, ...] | None
    topic_ids: Mapping[str, str]
    spans: Mapping[Place, Span]
    tombstone_life_ms: int


def problems(position: Position, topics: Topics, now_ms: int) -> Iterator[str]:
    """Yields why an index cannot be continued from a position.

    Args:
        position: of the index.
        topics: what it is to be continued with.
        now_ms: milliseconds since the epoch.
    """
    if position.collections != topics.collections:
        have, want = _listed(position.collections), _listed(topics.collections)
        yield f"it has {have}, and {want} is wanted"
    if position.partitions_count != topics.partitions_count:
        yield (
            f"it is of topics with {position.partitions_count} partitions, and they have "
            f"{topics.partitions_count}"
        )
        return
    for topic, known_id in position.topic_ids.items():
        topic_id = topics.topic_ids.get(topic)
        offset = position.next_offsets.get(topic)
        if topic_id is None:
            if position.collections == topics.collections:
                yield f"it is of another deployment, with a topic {topic}"
        elif known_id != topic_id:
            yield f"{topic} was deleted and made anew"
        elif offset is not None:
            span = topics.spans[topic, position.partition]
            where = f"partition {position.partition} of {topic}"
            if offset > span.end:
                yield f"{where} ends at offset {span.end}, and it has read up to {offset}"
            if offset < span.start:
                yield f"{where} begins at offset {span.start}, and it has read up to {offset}"
    if is_too_old(position, topics.tombstone_life_ms, now_ms):
        yield too_old(position, topics.tombstone_life_ms)


def is_too_old(position: Position, tombstone_life_ms: int, now_ms: int) -> bool:
    """Tells whether an index may have missed a null.

    Args:
        position: of the index.
        tombstone_life_ms: `delete.retention.ms` of its topics, the shortest of them.
        now_ms: milliseconds since the epoch.
    """
    return now_ms - position.current_ms > tombstone_life_ms * USABLE_SHARE


def too_old(position: Position, tombstone_life_ms: int) -> str:
    """Returns the sentence for an index that may have missed a null."""
    at = datetime.fromtimestamp(position.current_ms / 1000, UTC).isoformat(" ", "seconds")
    return (
        f"partition {position.partition} was last complete at {at}, and that something was "
        f"deleted is told for {tombstone_life_ms / 3_600_000:.1f} h only (delete.retention.ms)"
    )


def _listed(collections: tuple[str, ...] | None) -> str:
    return "all collections" if collections is None else ", ".join(collections) or "no collection"
