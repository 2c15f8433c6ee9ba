"""Which part of each partition a replay reads. Pure.

Whatever bounds a window, in the end it is a range of offsets in each partition, noted once before
anything is read. So a replay ends although others go on writing, and reads the same when it is
run again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pipelines.kafka.messages import Position

# How long after its timestamp a message may have been written. The bridge writes at once, a stage
# that was down writes later, and what explode parks for an identity comes up to half a day later.
# The broker finds the marks between transactions by time too, and these have that of writing.
DEFAULT_LATE_MS: Final = 3_600_000
# The offset that nothing is behind: a range without an end.
NO_END: Final = (1 << 63) - 1


class Range(NamedTuple):
    """A part of a partition.

    Attributes:
        start: offset of the first message.
        end: offset after the last one, never below `start`.
    """

    start: int
    end: int


class LogBounds(NamedTuple):
    """What the broker says of a partition.

    Attributes:
        start: offset of the first message there is.
        end: offset after the last one that can be read.
        since: offset of the first message that is as late as the window's begin; None if there is
            none.
        until: offset of the first message that is later than the window's end by as much as
            messages may be late, or of a mark that was written then; None if there is none.
    """

    start: int
    end: int
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The bounds that were asked for; all that are given have to hold.

    Attributes:
        since_ms: Kafka timestamp of the first messages, milliseconds since 1970.
        until_ms: timestamp from which on messages do not belong to it.
        late_ms: how long after `until_ms` a message from before it may have been written.
        offsets: the partitions that are read, and what of them; empty for all.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    late_ms: int = DEFAULT_LATE_MS
    offsets: Mapping[int, Range] = field(default_factory=dict)

    @property
    def is_over_before_it_begins(self) -> bool:
        """Whether nothing can be in it, whatever the topics hold."""
        return (
            self.since_ms is not None
            and self.until_ms is not None
            and self.until_ms <= self.since_ms
        )


def range_of(window: Window, partition: int, log: LogBounds) -> Range | None:
    """Returns what a replay reads of a partition.

    Args:
        window: what was asked for.
        partition: which one.
        log: where it begins and ends now.

    Returns:
        The range, which may be empty; None if the partition is not asked for.
    """
    wanted = Range(0, NO_END)
    if window.offsets:
        if partition not in window.offsets:
            return None
        wanted = window.offsets[partition]
    start = max(wanted.start, log.start)
    end = min(wanted.end, log.end)
    if window.since_ms is not None:
        start = max(start, log.end if log.since is None else log.since)
    if window.until_ms is not None and log.until is not None:
        end = min(end, log.until)
    return Range(min(start, end), end)


def message_count(ranges: Mapping[Position, Range]) -> int:
    """Returns how many offsets ranges have, of messages and of the marks between transactions."""
    return sum(max(0, end - start) for start, end in ranges.values() if end != NO_END)
