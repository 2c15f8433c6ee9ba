"""Analytics on a real broker: records in, counts by minute out, whatever happens in between."""

import threading
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient
from support.kafka import wait_until
from support.records import (
    RecordWriter,
    abort_records,
    assert_trends_are_true,
    generate_records,
    true_counts,
    true_trends,
)

from pipelines.analytics import service
from pipelines.analytics.reading import read_minutes, read_trends
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan

pytestmark = pytest.mark.broker

PARTITIONS = 3


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


def run_analytics(config: KafkaConfig, is_done: Callable[[], bool], what: str) -> None:
    """Runs one process's worth of analytics until a condition holds."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            service.run(config, slot="0", should_stop=stop.is_set)
        except BaseException as error:  # noqa: BLE001 - the test judges it
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: bool(failures) or is_done(), what)
    finally:
        stop.set()
        thread.join(120)
    assert failures == []
    assert not thread.is_alive()


def topic_names(config: KafkaConfig) -> set[str]:
    """Returns all topics of the cluster but Kafka's own."""
    admin = AdminClient({"bootstrap.servers": config.bootstrap_servers})
    return {name for name in admin.list_topics(timeout=10).topics if not name.startswith("__")}


def counted(config: KafkaConfig) -> int:
    return sum(operations.total_count for operations in read_minutes(config).values())


def test_committed_records_are_counted_once_and_aborted_ones_are_not(config: KafkaConfig) -> None:
    records = list(generate_records(600, seed=1))
    writer = RecordWriter(config, PARTITIONS)
    topics = topic_names(config)
    writer.write(records[:200])
    abort_records(config, records[200:400], PARTITIONS)
    writer.write(records[200:400])
    run_analytics(config, lambda: counted(config) >= 400, "the first records")
    # A second run goes on where the first one stopped.
    abort_records(config, records[400:], PARTITIONS)
    writer.write(records[400:])
    run_analytics(config, lambda: counted(config) >= 600, "the rest")

    truth = true_counts(config)
    assert sum(operations.total_count for operations in truth.values()) == 600
    assert read_minutes(config) == truth
    assert_trends_are_true(read_trends(config), true_trends(config))
    # Several minutes, collections and languages, or the test would show little.
    for column in zip(*truth, strict=True):
        assert len(set(column)) >= 4
    assert topic_names(config) == topics
