"""Reading partitions on, as messages come: for a stage that keeps a copy of what others write.

One subscribed topic drives what is assigned to a stage; the same partitions of others are read
beside it by a reader without a group, from positions that the stage itself remembers.
"""

from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipelines.config import KafkaConfig
from pipelines.kafka.clients import create_reader, is_passing
from pipelines.kafka.messages import InputMessage, Position
from pipelines.kafka.reading import input_message


class Follower:
    """Reads committed messages of given partitions. For one thread."""

    def __init__(self, kafka: KafkaConfig) -> None:
        """Prepares a reader of nothing.

        Args:
            kafka: the cluster; connected to on first use.
        """
        self._consumer: Consumer = create_reader(kafka)
        self._is_assigned = False

    def assign(self, next_offsets: Mapping[Position, int]) -> None:
        """Reads these partitions from now on, and no others.

        Args:
            next_offsets: for each, the offset to begin with.
        """
        self._consumer.assign(
            [TopicPartition(*where, offset) for where, offset in next_offsets.items()]
        )
        self._is_assigned = bool(next_offsets)

    def poll(self, max_count: int) -> list[InputMessage]:
        """Returns what has come, in order within each partition; waits for nothing."""
        if not self._is_assigned:
            return []
        messages = []
        for polled in self._consumer.consume(max_count, timeout=0):
            error = polled.error()
            if error is None:
                messages.append(input_message(polled))
            elif error.code() != KafkaError._PARTITION_EOF and not is_passing(error):  # noqa: SLF001 - its public name
                raise KafkaException(error)
        return messages

    def close(self) -> None:
        """Ends reading."""
        self._consumer.close()
