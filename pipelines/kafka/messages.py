"""A Kafka message as the stages see it, on its way in and on its way out."""

from typing import NamedTuple

Headers = list[tuple[str, bytes]]
Position = tuple[str, int]  # physical topic and partition


class InputMessage(NamedTuple):
    """A message that was consumed.

    Attributes:
        topic: physical name.
        partition: partition it was read from.
        offset: its own position; what is committed afterwards is `offset + 1`.
        timestamp_ms: the broker's timestamp, milliseconds since the epoch.
        key: raw key, or None.
        value: raw value; None is a tombstone.
        headers: in the producer's order; names may repeat.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class OutputMessage(NamedTuple):
    """A message to produce; the partition is always chosen by us, never by the client library."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int

    @property
    def size_bytes(self) -> int:
        """Key, value and headers, without the protocol's own overhead."""
        size = len(self.key or b"") + len(self.value or b"")
        return size + sum(len(name) + len(value) for name, value in self.headers)
