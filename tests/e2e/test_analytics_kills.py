"""`kill -9` and stops of analytics while records arrive: every record is counted exactly once."""

import random
import signal
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest
from support.kafka import wait_until
from support.pipeline import Stage
from support.records import (
    RecordWriter,
    assert_trends_are_true,
    generate_records,
    true_counts,
    true_trends,
)

from pipelines.analytics.reading import read_minutes, read_trends
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 3
CHUNK_COUNT = 100
SEED = 20260705
ASSIGNED = '"event": "assigned"'


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


@pytest.fixture
def processes(config: KafkaConfig, tmp_path: Path) -> Iterator[list[Stage]]:
    """Two processes of analytics that share the partitions."""
    cluster = ["--bootstrap-servers", config.bootstrap_servers]
    prefix = ["--topic-prefix", config.topic_prefix]
    stages = [
        Stage(["analytics", "--slot", slot, *cluster, *prefix], tmp_path / f"{slot}.log")
        for slot in ("0", "1")
    ]
    yield stages
    for stage in stages:
        if stage.is_running:
            stage.kill()


def counted(config: KafkaConfig) -> int:
    return sum(operations.total_count for operations in read_minutes(config).values())


def test_kills_in_the_middle(config: KafkaConfig, processes: list[Stage]) -> None:
    choose = random.Random(SEED)
    writer = RecordWriter(config, PARTITIONS)
    records = list(generate_records(6_000, SEED))
    victims = cycle(processes)
    written_count = 0
    while written_count < len(records):
        writer.write(records[written_count : written_count + CHUNK_COUNT])
        written_count += CHUNK_COUNT
        if written_count % 1_500 == 0:
            # What was written last is not counted yet, or just being committed.
            wait_until(
                lambda: counted(config) >= choose.uniform(0.5, 0.99) * written_count,  # noqa: B023
                "most of what is there is counted",
            )
            victim = next(victims)
            assert victim.is_running, victim.log()
            victim.kill()
            victim.start()
    wait_until(lambda: counted(config) >= len(records), "everything is counted")
    wait_until(lambda: all(stage.has_said(ASSIGNED) for stage in processes), "both have started")
    assert [stage.stop() for stage in processes] == [0, 0]
    assert read_minutes(config) == true_counts(config)
    assert_trends_are_true(read_trends(config), true_trends(config))


def test_a_process_that_slept_through_a_rebalance_commits_nothing(
    config: KafkaConfig, processes: list[Stage]
) -> None:
    writer = RecordWriter(config, PARTITIONS)
    records = list(generate_records(900, SEED))
    writer.write(records[:300])
    wait_until(lambda: counted(config) >= 300, "the first records")
    sleeper, other = processes
    wait_until(lambda: other.has_said(ASSIGNED), "both are in the group")
    sleeper.process.send_signal(signal.SIGSTOP)
    # Longer than the session time-out: the other one takes over and counts these alone.
    writer.write(records[300:600])
    wait_until(lambda: counted(config) >= 600, "the other process took over")
    sleeper.process.send_signal(signal.SIGCONT)
    writer.write(records[600:])
    wait_until(lambda: counted(config) >= 900, "the rest")
    assert [stage.stop() for stage in processes] == [0, 0]
    assert read_minutes(config) == true_counts(config)
    assert_trends_are_true(read_trends(config), true_trends(config))
