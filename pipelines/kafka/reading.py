"""Reading a topic from its beginning to its end, once.

The end is what was readable when the reading began: librdkafka's positions do not pass the
markers that end a transaction, so a partition is done at the end-of-partition event whose offset
has reached that end, and never by comparing positions.
"""

import time
from collections.abc import Iterator, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka.clients import create_reader
from pipelines.kafka.messages import InputMessage

# Without any message or end for so long, the broker is away.
PROGRESS_TIMEOUT_S = 30.0
_POLL_TIMEOUT_S = 0.5


def read_to_end(kafka: KafkaConfig, topics: Sequence[str]) -> Iterator[InputMessage]:
    """Yields every committed message that topics hold now.

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
        ends = {
            (topic, partition): end
            for topic in topics
            for partition in _partitions(consumer, topic)
            if (end := _end(consumer, topic, partition)) > 0
        }
        consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in ends])
        deadline_s = time.monotonic() + PROGRESS_TIMEOUT_S
        while ends:
            polled = consumer.poll(_POLL_TIMEOUT_S)
            if polled is None:
                if time.monotonic() > deadline_s:
                    raise BrokerUnavailableError(f"no answer while reading {', '.join(topics)}")
                continue
            deadline_s = time.monotonic() + PROGRESS_TIMEOUT_S
            error = polled.error()
            if error is None:
                yield input_message(polled)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                where = (polled.topic() or "", polled.partition() or 0)
                if (polled.offset() or 0) >= ends.get(where, 0):
                    ends.pop(where, None)
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


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    try:
        metadata = consumer.list_topics(topic, timeout=PROGRESS_TIMEOUT_S).topics[topic]
    except KafkaException as failure:
        raise BrokerUnavailableError(f"no answer about {topic}: {failure.args[0].str()}") from None
    return sorted(metadata.partitions)


def _end(consumer: Consumer, topic: str, partition: int) -> int:
    where = TopicPartition(topic, partition)
    low, high = consumer.get_watermark_offsets(where, timeout=PROGRESS_TIMEOUT_S)
    return high if high > low else 0
