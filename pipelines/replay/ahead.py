"""Reading several partitions ahead, for somebody who takes from one or another as order demands.

One consumer without a group reads them all. What comes of a partition whose turn it is not is kept
until it is. Limits of memory, and what happens when they are reached:

    messages kept        AHEAD_BYTES, and one read     partitions that have some are paused
    librdkafka's queue   CONSUMER_QUEUE_KBYTES         it stops fetching
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError, OffsetLostError
from pipelines.kafka.clients import create_strict_reader, is_passing
from pipelines.kafka.messages import InputMessage, Position
from pipelines.kafka.reading import PROGRESS_TIMEOUT_S, input_message

# Messages of partitions that run ahead of the others.
AHEAD_BYTES: Final = 64 * 1024 * 1024
# Of one read, on top of it.
READ_COUNT: Final = 1_000
_POLL_TIMEOUT_S: Final = 0.2


class StoppedError(Exception):
    """Somebody asked to stop while a message was waited for."""


class _Partition:
    """What was read of a partition and is not taken yet.

    Attributes:
        messages: in order.
        reached: everything below this offset was read, or is no message.
        size_bytes: of the messages' keys and values.
        is_at_end: whether nothing more could be read when the broker was asked last.
        is_paused: whether nothing is fetched for now.
    """

    __slots__ = ("is_at_end", "is_paused", "messages", "reached", "size_bytes")

    def __init__(self, start: int) -> None:
        self.messages: deque[InputMessage] = deque()
        self.reached = start
        self.size_bytes = 0
        self.is_at_end = False
        self.is_paused = False


class Ahead:
    """Committed messages of partitions, each taken in its own order. For one thread."""

    def __init__(
        self,
        kafka: KafkaConfig,
        starts: Mapping[Position, int],
        should_stop: Callable[[], bool],
        *,
        max_bytes: int = AHEAD_BYTES,
    ) -> None:
        """Begins to read.

        Args:
            kafka: the cluster.
            starts: the partitions, and the first offset of each.
            should_stop: asked while a message is waited for.
            max_bytes: as `AHEAD_BYTES`.
        """
        self._should_stop = should_stop
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._partitions = {where: _Partition(start) for where, start in starts.items()}
        self._consumer: Consumer = create_strict_reader(kafka)
        self._consumer.assign([TopicPartition(*where, start) for where, start in starts.items()])

    def below(self, where: Position, end: int) -> InputMessage | None:
        """Returns the next message of a partition below an offset, and leaves it there.

        Waits until it has come, or it is known that there is none: for what is committed and not
        readable yet, too.

        Args:
            where: the partition.
            end: an offset.

        Raises:
            BrokerUnavailableError: the broker does not answer, or the partition stays shorter.
            OffsetLostError: messages were deleted before they could be read.
            StoppedError: somebody asked to stop.
        """
        partition = self._partitions[where]
        self._wait_until(where, lambda: bool(partition.messages) or partition.reached >= end)
        if partition.messages and partition.messages[0].offset < end:
            return partition.messages[0]
        return None

    def next(self, where: Position) -> InputMessage | None:
        """Returns the next message of a partition, and leaves it there; None at its present end.

        Raises:
            BrokerUnavailableError: as `below`, and so the others.
            OffsetLostError: likewise.
            StoppedError: likewise.
        """
        partition = self._partitions[where]
        self._wait_until(where, lambda: bool(partition.messages) or partition.is_at_end)
        return partition.messages[0] if partition.messages else None

    def take(self, where: Position) -> InputMessage:
        """Removes the next message of a partition, which has one, and returns it."""
        partition = self._partitions[where]
        message = partition.messages.popleft()
        size_bytes = _size_bytes(message)
        partition.size_bytes -= size_bytes
        self._size_bytes -= size_bytes
        if partition.is_paused and not partition.messages:
            self._consumer.resume([TopicPartition(*where)])
            partition.is_paused = False
        return message

    def wait(self, timeout_s: float) -> bool:
        """Reads what has come; waits if nothing has.

        Args:
            timeout_s: how long at most.

        Returns:
            Whether anything came, be it the news that a partition is at its end.
        """
        first = self._consumer.poll(timeout_s)
        if first is None:
            return False
        self._keep(first)
        for polled in self._consumer.consume(READ_COUNT, timeout=0):
            self._keep(polled)
        if self._size_bytes > self._max_bytes:
            self._pause()
        return True

    def close(self) -> None:
        """Ends reading."""
        self._consumer.close()

    def _wait_until(self, where: Position, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PROGRESS_TIMEOUT_S
        while not condition():
            if self._should_stop():
                raise StoppedError
            if self.wait(_POLL_TIMEOUT_S):
                deadline_s = time.monotonic() + PROGRESS_TIMEOUT_S
            elif time.monotonic() > deadline_s:
                raise BrokerUnavailableError(
                    f"nothing came of {where[0]}, partition {where[1]}, for "
                    f"{PROGRESS_TIMEOUT_S:.0f} s: the broker is away, or a transaction is open"
                )

    def _keep(self, polled: Message) -> None:
        error = polled.error()
        partition = self._partitions.get((polled.topic() or "", polled.partition() or 0))
        if error is None:
            assert partition is not None
            message = input_message(polled)
            if message.offset < partition.reached:
                return  # a second time, after a pause
            size_bytes = _size_bytes(message)
            partition.messages.append(message)
            partition.reached = message.offset + 1
            partition.size_bytes += size_bytes
            partition.is_at_end = False
            self._size_bytes += size_bytes
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            if partition is not None:
                partition.is_at_end = True
                partition.reached = max(partition.reached, polled.offset() or 0)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - as above
            raise OffsetLostError(
                f"{polled.topic()}, partition {polled.partition()}: messages were deleted before "
                "they could be read, as they had come to the end of their retention; begin later"
            )
        elif not is_passing(error):
            raise KafkaException(error)

    def _pause(self) -> None:
        """Fetches nothing more of the partitions that have messages."""
        for where, partition in self._partitions.items():
            if partition.messages and not partition.is_paused:
                self._consumer.pause([TopicPartition(*where)])
                partition.is_paused = True


def _size_bytes(message: InputMessage) -> int:
    return len(message.key or b"") + len(message.value or b"")
