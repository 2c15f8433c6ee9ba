"""How old records are when a reader of committed ones gets them."""

import json
import time
from collections.abc import Sequence
from statistics import quantiles
from typing import NamedTuple

from pipelines.config import KafkaConfig
from pipelines.kafka.following import Follower
from pipelines.kafka.messages import InputMessage

# Long enough to leave others the processor, short beside what is measured.
_PAUSE_S = 0.002


class Delayed(NamedTuple):
    """A record that was read.

    Attributes:
        received_us: when the bridge got its frame from the socket, microseconds since the epoch.
        read_us: when it was read here.
    """

    received_us: int
    read_us: int

    @property
    def delay_ms(self) -> float:
        """How old it was."""
        return (self.read_us - self.received_us) / 1_000


class DelayReader:
    """Reads topics of records as they come."""

    def __init__(self, kafka: KafkaConfig, topics: Sequence[str], partitions: int) -> None:
        """Begins at the beginning of the topics.

        Args:
            kafka: the cluster.
            topics: physical names.
            partitions: of each.
        """
        self._reader = Follower(kafka)
        self._reader.assign(
            {(topic, number): 0 for topic in topics for number in range(partitions)}
        )

    def poll(self) -> list[tuple[InputMessage, int]]:
        """Returns what has come, with the moment, and waits a little if nothing has."""
        messages = self._reader.poll(1_000)
        if not messages:
            time.sleep(_PAUSE_S)
        read_us = time.time_ns() // 1_000
        return [(message, read_us) for message in messages]

    def close(self) -> None:
        """Ends reading."""
        self._reader.close()


def delayed(message: InputMessage, read_us: int) -> Delayed:
    """Returns when a message's record came and when it was read; it must have a value."""
    return Delayed(json.loads(message.value or b"")["received_us"], read_us)


def in_words(records: Sequence[Delayed]) -> str:
    """Returns the middle and the 99th percentile of at least two delays."""
    percentiles = quantiles((record.delay_ms for record in records), n=100)
    return f"p50 {percentiles[49]:,.0f} ms, p99 {percentiles[98]:,.0f} ms"
