"""Topics, messages and reads for tests against a real broker."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # no explicit re-exports
    AdminClient,
    NewPartitions,
    NewTopic,
)

from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka.messages import InputMessage, Position
from pipelines.kafka.reading import read_to_end, readable_log_ends


def create_topic(
    kafka: KafkaConfig, name: str, partitions: int, configs: dict[str, str] | None = None
) -> str:
    """Creates a topic and returns its physical name."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    topic = kafka.topic(name)
    wanted = NewTopic(topic, partitions, 1, config=configs or {})
    for future in admin.create_topics([wanted]).values():
        future.result(10)
    return topic


def produce(kafka: KafkaConfig, topic: str, values: Sequence[tuple[int, bytes]]) -> None:
    """Writes (partition, value) messages, outside of any transaction."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 5})
    for partition, value in values:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(20) == 0


def delete_before(kafka: KafkaConfig, topic: str, next_offsets: Mapping[int, int]) -> None:
    """Deletes the messages of partitions before an offset, as retention does."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    wanted = [TopicPartition(topic, *where) for where in next_offsets.items()]
    for future in admin.delete_records(wanted).values():
        future.result(20)


def add_partitions(kafka: KafkaConfig, count: int) -> None:
    """Gives the topics of a deployment that have several partitions more of them."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    found = admin.list_topics(timeout=20).topics
    wanted = [
        NewPartitions(name, count)
        for name, topic in found.items()
        if name.startswith(f"{kafka.topic_prefix}.") and len(topic.partitions) > 1
    ]
    for future in admin.create_partitions(wanted).values():
        future.result(20)

    def is_known() -> bool:
        topics = admin.list_topics(timeout=20).topics
        return all(len(topics[new.topic].partitions) == count for new in wanted)

    wait_until(is_known, f"topics with {count} partitions")


def delete_topic(kafka: KafkaConfig, topic: str) -> None:
    """Deletes a topic, and waits until the broker has no such topic."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for future in admin.delete_topics([topic]).values():
        future.result(20)
    wait_until(lambda: topic not in admin.list_topics(timeout=20).topics, f"no {topic}")


def delete_deployment(kafka: KafkaConfig) -> None:
    """Has the broker delete all topics of a deployment, unless it does not answer any more."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    with suppress(KafkaException):
        found = admin.list_topics(timeout=10).topics
        wanted = [name for name in found if name.startswith(f"{kafka.topic_prefix}.")]
        for future in admin.delete_topics(wanted).values() if wanted else ():
            future.result(20)


def read_committed(kafka: KafkaConfig, topic: str) -> list[InputMessage]:
    """Reads all partitions from their beginning to their end, partition by partition."""
    messages = read_to_end(kafka, [topic])
    return sorted(messages, key=lambda message: (message.partition, message.offset))


def read_decided(kafka: KafkaConfig, topic: str) -> list[InputMessage]:
    """Reads everything that was written before the call, whose transactions it waits for.

    That a transaction committed can be seen in one partition before it can be in another, and in
    the positions of a group first of all.
    """
    _wait_for_decisions(kafka, lambda name: name == topic)
    return read_committed(kafka, topic)


def _wait_for_decisions(kafka: KafkaConfig, is_wanted: Callable[[str], bool]) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    found = admin.list_topics(timeout=20).topics
    wanted: list[Position] = [
        (name, partition)
        for name, topic in found.items()
        if is_wanted(name)
        for partition in topic.partitions
    ]
    readable_log_ends(kafka, wanted)


def is_caught_up(config: KafkaConfig, stage: str, topic: str) -> bool:
    """Tells whether a stage is done with its input, and whatever it made of it can be read."""
    ends: dict[int, int] = {}
    for message in read_committed(config, topic):
        ends[message.partition] = message.offset + 1
    consumer = Consumer(
        {"bootstrap.servers": config.bootstrap_servers, "group.id": config.group(stage)}
    )
    try:
        wanted = [TopicPartition(topic, partition) for partition in ends]
        found = consumer.committed(wanted, timeout=20)
    finally:
        consumer.close()
    if any(where.offset != ends[where.partition] for where in found):
        return False
    _wait_for_decisions(config, lambda name: name.startswith(f"{config.topic_prefix}."))
    return True


def commit_positions(config: KafkaConfig, stage: str, topic: str) -> None:
    """Has a stage that does not run be done with all that a topic holds now."""
    ends: dict[int, int] = {}
    for message in read_committed(config, config.topic(topic)):
        ends[message.partition] = message.offset + 1
    consumer = Consumer(
        {"bootstrap.servers": config.bootstrap_servers, "group.id": config.group(stage)}
    )
    try:
        positions = [TopicPartition(config.topic(topic), *end) for end in ends.items()]
        consumer.commit(offsets=positions, asynchronous=False)
    finally:
        consumer.close()


def read_cursor(config: KafkaConfig, host: str) -> int | None:
    """Returns the last sequence number of an upstream that the bridge has noted."""
    cursors = {m.key: m.value for m in read_committed(config, config.topic("cursors"))}
    value = cursors.get(host.encode())
    if value is None:
        return None
    seq: int = json.loads(value)["seq"]
    return seq


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
    """Polls a condition; fails with `what` when it does not come true in time.

    Nothing is true of a broker that does not answer, or has no leader for a partition yet.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        with suppress(BrokerUnavailableError):
            if condition():
                return
        assert time.monotonic() < deadline_s, f"waited {timeout_s} s in vain: {what}"
        time.sleep(0.05)
