"""Reading a topic from its beginning to its end, once.

The end is noted before the reading begins. librdkafka's positions do not pass the markers that
end a transaction, so comparing positions with it is not enough: a partition is done at a message
that is its last, or at an end-of-partition event whose offset has reached the end. The event
alone would not do either, since a topic that others write to all the time may never report one.
"""

import time
from collections.abc import Iterator, Sequence

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka.clients import create_reader
from pipelines.kafka.messages import InputMessage, Position

# Without any message or end for so long, the broker is away.
PROGRESS_TIMEOUT_S = 30.0
_POLL_TIMEOUT_S = 0.5


def read_to_end(kafka: KafkaConfig, topics: Sequence[str]) -> Iterator[InputMessage]:
    """Yields every committed message that topics hold now, up to the first open transaction.

    Args:
        kafka: the cluster.
        topics: physical names.

    Yields:
        Messages, in order within each partition.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    consumer = create_reader(kafka)
    try:
        pending = {
            where: end for where, end in _readable_ends(consumer, topics).items() if end > 0
        }
        consumer.assign([TopicPartition(*where, OFFSET_BEGINNING) for where in pending])
        deadline_s = time.monotonic() + PROGRESS_TIMEOUT_S
        while pending:
            polled = consumer.poll(_POLL_TIMEOUT_S)
            if polled is None:
                if time.monotonic() > deadline_s:
                    raise BrokerUnavailableError(f"no answer while reading {', '.join(topics)}")
                continue
            deadline_s = time.monotonic() + PROGRESS_TIMEOUT_S
            error = polled.error()
            where = (polled.topic() or "", polled.partition() or 0)
            end = pending.get(where)
            if error is None:
                if end is not None:
                    message = input_message(polled)
                    if message.offset < end:
                        yield message
                    if message.offset + 1 >= end:
                        del pending[where]
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                if end is not None and (polled.offset() or 0) >= end:
                    del pending[where]
            elif not error.retriable():
                raise KafkaException(error)
    finally:
        consumer.close()


def input_message(polled: Message) -> InputMessage:
    """Converts a message of the client library, which must not be an error."""
    topic, partition, offset = polled.topic(), polled.partition(), polled.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    headers = polled.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return InputMessage(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp_ms=polled.timestamp()[1],
        key=_as_bytes(polled.key()),
        value=_as_bytes(polled.value()),
        headers=[(name, _as_bytes(value) or b"") for name, value in pairs],
    )


def _as_bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _readable_ends(consumer: Consumer, topics: Sequence[str]) -> dict[Position, int]:
    """Returns where `read_committed` readers come to an end now."""
    ends = {}
    try:
        for topic in topics:
            metadata = consumer.list_topics(topic, timeout=PROGRESS_TIMEOUT_S).topics[topic]
            for partition in metadata.partitions:
                where = TopicPartition(topic, partition)
                low, high = consumer.get_watermark_offsets(where, timeout=PROGRESS_TIMEOUT_S)
                ends[topic, partition] = high if high > low else 0
    except KafkaException as failure:
        raise BrokerUnavailableError(f"no answer about {topic}: {failure.args[0].str()}") from None
    return ends
