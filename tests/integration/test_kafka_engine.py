"""What everything else rests on, shown on the broker itself and with clients that are not ours.

Aborted messages stay hidden from Kafka's own console consumer and from aiokafka (Faust's
transport) when they read committed; a compacted topic keeps the last value of each key and the
offsets of what it keeps.
"""

import asyncio
import os
import shutil
import subprocess
import time

import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from pipelines.kafka.jars import KafkaJars

pytestmark = pytest.mark.broker

_COMPACTION_TIMEOUT_S = 60.0  # the cleaner of a broker that is not ours may look every 15 s only


@pytest.fixture
def transactions(kafka: str, topic_prefix: str) -> str:
    """A topic with a committed, an aborted and again a committed message."""
    topic = f"{topic_prefix}.transactions"
    _create(kafka, topic, {})
    producer = Producer(
        {"bootstrap.servers": kafka, "transactional.id": topic_prefix, "log_level": 3}
    )
    producer.init_transactions(30)
    for value in (b"committed 1", b"aborted", b"committed 2"):
        producer.begin_transaction()
        producer.produce(topic, value)
        assert producer.flush(30) == 0  # the broker has it, also what is aborted now
        if value == b"aborted":
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
    return topic


def _create(kafka: str, topic: str, config: dict[str, str]) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 1, 1, config=config)])[topic].result(30)


@pytest.mark.skipif(
    bool(os.environ.get("BOOTSTRAP")) and not (shutil.which("java") and shutil.which("mvn")),
    reason="BOOTSTRAP names a cluster, and there is no Java or Maven for the console consumer",
)
@pytest.mark.parametrize(
    ("isolation", "expected"),
    [
        ("read_committed", ["committed 1", "committed 2"]),
        ("read_uncommitted", ["committed 1", "aborted", "committed 2"]),
    ],
)
def test_console_consumer_sees_an_aborted_message_only_when_it_reads_uncommitted(
    kafka: str, transactions: str, isolation: str, expected: list[str]
) -> None:
    jars = KafkaJars.default()
    jars.fetch()
    run = subprocess.run(
        [
            *("java", "-cp", jars.classpath, "org.apache.kafka.tools.consumer.ConsoleConsumer"),
            *("--bootstrap-server", kafka, "--topic", transactions, "--from-beginning"),
            *("--isolation-level", isolation, "--max-messages", str(len(expected))),
            *("--timeout-ms", "30000"),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert run.stdout.splitlines() == expected, run.stderr


@pytest.mark.parametrize(
    ("isolation", "expected"),
    [
        ("read_committed", [b"committed 1", b"committed 2"]),
        ("read_uncommitted", [b"committed 1", b"aborted", b"committed 2"]),
    ],
)
def test_aiokafka_sees_an_aborted_message_only_when_it_reads_uncommitted(
    kafka: str, transactions: str, isolation: str, expected: list[bytes]
) -> None:
    async def read() -> list[bytes | None]:
        consumer = AIOKafkaConsumer(
            transactions,
            bootstrap_servers=kafka,
            auto_offset_reset="earliest",
            isolation_level=isolation,
        )
        await consumer.start()
        try:
            return [(await consumer.getone()).value for _ in expected]
        finally:
            await consumer.stop()

    assert asyncio.run(asyncio.wait_for(read(), 60)) == expected


def test_compaction_keeps_the_last_value_of_a_key_and_its_offset(
    kafka: str, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}.compacted"
    config = {
        "cleanup.policy": "compact",
        "segment.ms": "1000",
        "min.cleanable.dirty.ratio": "0.01",
        "min.compaction.lag.ms": "0",
    }
    _create(kafka, topic, config)
    values = [(b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"a", b"3"), (b"c", b"1"), (b"c", None)]
    producer = Producer({"bootstrap.servers": kafka})
    now_ms = int(time.time() * 1000)
    for number, (message_key, value) in enumerate([*values, (b"end", b"")]):
        # A segment closes when a message a second younger arrives: each gets its own, and the
        # last one is the active segment, which is never compacted.
        timestamp_ms = now_ms + (number - len(values)) * 10_000
        producer.produce(topic, key=message_key, value=value, timestamp=timestamp_ms)
        assert producer.flush(30) == 0

    expected = [(1, b"b", b"1"), (3, b"a", b"3"), (5, b"c", None), (6, b"end", b"")]
    deadline = time.monotonic() + _COMPACTION_TIMEOUT_S
    while (left := _read_all(kafka, topic)) != expected and time.monotonic() < deadline:
        assert set(expected) <= set(left), "compaction lost the last value of a key"
    assert left == expected


def _read_all(kafka: str, topic: str) -> list[tuple[int | None, bytes | None, bytes | None]]:
    consumer = Consumer(
        {"bootstrap.servers": kafka, "group.id": "unused", "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = []
    try:
        while True:
            message = consumer.poll(30)
            assert message is not None, "the broker does not answer"
            error = message.error()
            if error is None:
                messages.append((message.offset(), message.key(), message.value()))
            elif error.code() == KafkaError._PARTITION_EOF:
                return messages
            else:
                raise AssertionError(error.str())
    finally:
        consumer.close()
