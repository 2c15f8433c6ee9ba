"""Reading messages by their offsets: single ones again, or a row of them that somebody named."""

import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError, TopicShortError
from pipelines.kafka.clients import create_sampler, is_passing
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.reading import input_message

# A gap that is read over instead of being jumped: a jump costs a request to the broker.
SKIPPED_COUNT = 50
# Of a fetch: some frames, and not what lies far behind the wanted one.
FETCH_BYTES = 256 * 1024
# Messages of a row that are fetched ahead.
ROW_AHEAD_COUNT = 4
READ_TIMEOUT_S = 10.0
_POLL_TIMEOUT_S = 0.5
# What is said of a topic that was deleted, some time later; before that nothing is.
_MISSING: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - its public name
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - its public name
    }
)


class OffsetReader:
    """Reads messages of one topic again. For one thread."""

    def __init__(self, kafka: KafkaConfig, topic: str) -> None:
        """Prepares a reader; it connects on first use.

        Args:
            kafka: the cluster.
            topic: physical name.
        """
        self._topic = topic
        self._consumer: Consumer = create_sampler(
            kafka, count=SKIPPED_COUNT, fetch_bytes=FETCH_BYTES
        )

    def read(
        self, partition: int, offsets: Sequence[int], budget_s: float
    ) -> dict[int, InputMessage | None]:
        """Returns messages by their offsets.

        Args:
            partition: where they are.
            offsets: rising.
            budget_s: how long it may take; the first one is read in any case.

        Returns:
            The messages; None where the topic no longer has one. Those that there was no time
            for are missing, and those behind the end of the topic.

        Raises:
            BrokerUnavailableError: the broker does not answer.
            TopicShortError: the topic ends before all of them.
        """
        wanted: dict[int, InputMessage | None] = dict.fromkeys(offsets)
        read: dict[int, InputMessage | None] = {}
        deadline_s = time.monotonic() + budget_s
        at: int | None = None  # the next message to come
        try:
            for offset in offsets:
                if at is None or offset > at + SKIPPED_COUNT:
                    self._consumer.assign([TopicPartition(self._topic, partition, offset)])
                    at = offset
                while at <= offset:
                    message = _next(self._consumer, self._topic, at, READ_TIMEOUT_S)
                    if isinstance(message, int):
                        return self._up_to(message, wanted)
                    if message.offset in wanted:
                        wanted[message.offset] = message
                    at = message.offset + 1
                read[offset] = wanted[offset]
                if time.monotonic() >= deadline_s:
                    break
        finally:
            self._consumer.unassign()
        return read

    def close(self) -> None:
        """Ends reading."""
        self._consumer.close()

    def _up_to(
        self, end: int, wanted: dict[int, InputMessage | None]
    ) -> dict[int, InputMessage | None]:
        """Returns what was wanted before the end of the topic.

        What has not come of it was there, so it has been deleted. Nothing can be said of what is
        behind the end: a new leader does not know yet how far the topic goes.
        """
        found = {offset: message for offset, message in wanted.items() if offset < end}
        if not found:
            raise TopicShortError(
                f"{self._topic} ends before offset {min(wanted)}, where something was read once"
            )
        return found


class RowReader:
    """Reads rows of messages of one topic, one message at a time. For one thread.

    What comes next is fetched ahead, as long as a row is read without a jump.
    """

    def __init__(
        self, kafka: KafkaConfig, topic: str, *, fetch_bytes: int, timeout_s: float
    ) -> None:
        """Prepares a reader; it connects on first use.

        Args:
            kafka: the cluster.
            topic: physical name.
            fetch_bytes: of one fetch.
            timeout_s: how long to wait for a message. It stays asked for.
        """
        self._topic = topic
        self._timeout_s = timeout_s
        self._consumer: Consumer = create_sampler(
            kafka, count=ROW_AHEAD_COUNT, fetch_bytes=fetch_bytes
        )
        self._next: tuple[int, int] | None = None  # partition and offset

    def next(self, partition: int, offset: int, end: int) -> InputMessage | None:
        """Returns the first committed message from an offset on, or None if there is none.

        Args:
            partition: where it is.
            offset: where to begin.
            end: where to end; everything before it was committed when the caller heard of it.

        Raises:
            BrokerUnavailableError: the broker does not answer in time; it may be asked on.
            TopicShortError: the topic ends before `end`, as far as the broker knows.
        """
        if self._next != (partition, offset):
            self._consumer.assign([TopicPartition(self._topic, partition, offset)])
            self._next = (partition, offset)
        message = _next(self._consumer, self._topic, offset, self._timeout_s)
        self._next = None
        if isinstance(message, int):
            if message < end:
                raise TopicShortError(
                    f"{self._topic} ends before offset {end}, up to which it was written"
                )
            return None
        if message.offset >= end:
            return None
        self._next = (partition, message.offset + 1)
        return message

    def rest(self) -> None:
        """Fetches nothing until it is asked again."""
        self._consumer.unassign()
        self._next = None

    def close(self) -> None:
        """Ends reading."""
        self._consumer.close()


def _next(consumer: Consumer, topic: str, at: int, timeout_s: float) -> InputMessage | int:
    """Returns the next message from an offset on, or one that the topic ends at or before."""
    deadline_s = time.monotonic() + timeout_s
    while (left_s := deadline_s - time.monotonic()) > 0:
        polled = consumer.poll(min(left_s, _POLL_TIMEOUT_S))
        if polled is None:
            continue
        error = polled.error()
        if error is None:
            message = input_message(polled)
            # Who asks beyond the end is sent back to the beginning.
            return message if message.offset >= at else at
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            end = polled.offset()
            assert end is not None
            return end
        if error.code() in _MISSING:
            raise BrokerUnavailableError(
                f"there is no {topic} now: `standpipe topics apply` makes it"
            )
        if not is_passing(error):
            raise KafkaException(error)
    raise BrokerUnavailableError(f"no answer while reading {topic} again")
