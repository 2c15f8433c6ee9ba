"""How far a replay has come, as it is kept beside what it wrote. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pipelines.kafka.messages import Position
from pipelines.replay.window import Range

_VERSION: Final = 1

# What was asked for, in a form that can be compared and shown: option → value.
Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """A replay that was begun.

    Attributes:
        spec: what was asked for.
        ranges: what is left to read of each partition; the ends are those noted at the beginning.
        size_bytes: of the output that belongs to what was read, where that is one file.
        blocks_count: blocks that were written.
    """

    spec: Spec
    ranges: Mapping[Position, Range]
    size_bytes: int = 0
    blocks_count: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to read."""
        return all(start >= end for start, end in self.ranges.values())


def encode_progress(progress: Progress) -> bytes:
    """Returns the content of a state file: JSON, version 1."""
    return orjson.dumps(
        {
            "version": _VERSION,
            "spec": dict(progress.spec),
            "ranges": [
                {"topic": topic, "partition": number, "next_offset": start, "end_offset": end}
                for (topic, number), (start, end) in progress.ranges.items()
            ],
            "size_bytes": progress.size_bytes,
            "blocks_count": progress.blocks_count,
        },
        option=orjson.OPT_INDENT_2,
    )


def parse_progress(content: bytes) -> Progress:
    """Takes the content of a state file apart.

    Raises:
        ValueError: it is of another shape.
    """
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        found = None
    match found:
        case {
            "version": 1,
            "spec": dict(spec),
            "ranges": list(ranges),
            "size_bytes": int(size_bytes),
            "blocks_count": int(blocks_count),
        }:
            return Progress(spec, dict(_ranges(ranges)), size_bytes, blocks_count)
    raise ValueError("not the state of a replay, version 1")


def difference(found: Spec, wanted: Spec) -> str:
    """Returns what two specifications differ in, as `since 2h (now 3h)`; nothing if they agree."""
    return ", ".join(
        f"{name} {found.get(name)} (now {wanted.get(name)})"
        for name in sorted({*found, *wanted})
        if found.get(name) != wanted.get(name)
    )


def _ranges(entries: list[Any]) -> Iterator[tuple[Position, Range]]:
    for entry in entries:
        match entry:
            case {
                "topic": str(topic),
                "partition": int(number),
                "next_offset": int(start),
                "end_offset": int(end),
            }:
                yield (topic, number), Range(start, end)
            case _:
                raise ValueError("not a range of a partition")
