"""Analytics: records/s through `standpipe analytics`, one process of Faust, over a real broker.

What counts is the middle of the run, from where a tenth of the records is counted and committed to
where almost all are: no start, no wait for the last commit.
"""

import tempfile
import time
import uuid
from pathlib import Path
from typing import Final, NamedTuple

import click
from bench import processors
from bench.broker import running_broker
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient
from support.pipeline import Stage
from support.records import RecordWriter, generate_records

from pipelines.analytics.reading import read_minutes
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.clients import create_admin

PARTITIONS: Final = 4
RECORDS_COUNT: Final = 60_000
_PER_TRANSACTION: Final = 5_000
_BEGIN, _END = 0.1, 0.95
_SAMPLE_S = 0.1
_QUIET_S = 5.0
_TIMEOUT_S = 180.0


class _Sample(NamedTuple):
    """A moment: by the clock, records done and their markers, seconds of processor so far."""

    at_s: float
    done: int
    cpu_s: float


def run(_rounds: int) -> None:
    """Prints how fast one process counts records by minute and follows the trends of an hour."""
    with running_broker() as broker, tempfile.TemporaryDirectory() as folder:
        kafka = KafkaConfig(broker.bootstrap_servers, f"bench-{uuid.uuid4().hex[:8]}")
        apply(plan(kafka, PARTITIONS))
        _publish(kafka)
        load = processors.load()
        cluster = ["--bootstrap-servers", kafka.bootstrap_servers]
        prefix = ["--topic-prefix", kafka.topic_prefix]
        stage = Stage(["analytics", *cluster, *prefix], Path(folder) / "analytics.log")
        samples = _watch(kafka, stage)
        assert stage.stop() == 0, stage.log()
        counted = sum(operations.total_count for operations in read_minutes(kafka).values())
        assert counted == RECORDS_COUNT, f"{counted} records counted"
    total = samples[-1].done
    begin = next(sample for sample in samples if sample.done >= _BEGIN * total)
    end = next(sample for sample in samples if sample.done >= _END * total)
    records = (end.done - begin.done) / total * RECORDS_COUNT
    click.echo(
        f"analytics with Faust, one process, {RECORDS_COUNT:,} records of 200 accounts: counts by "
        f"minute, trends by hour, committed ({load})\n"
        f"  {records / (end.at_s - begin.at_s):8,.0f} records/s  "
        f"{(end.cpu_s - begin.cpu_s) / records * 1e6:.0f} µs of CPU a record"
    )


def _publish(kafka: KafkaConfig) -> None:
    writer = RecordWriter(kafka, PARTITIONS)
    values = list(generate_records(RECORDS_COUNT, seed=1))
    for start in range(0, RECORDS_COUNT, _PER_TRANSACTION):
        writer.write(values[start : start + _PER_TRANSACTION])


def _watch(kafka: KafkaConfig, stage: Stage) -> list[_Sample]:
    """Samples what is committed until nothing more comes."""
    admin = create_admin(kafka)
    samples: list[_Sample] = []
    deadline_s = time.monotonic() + _TIMEOUT_S
    last_s = time.monotonic()
    # Commits come every second, so nothing new for some of them is the end.
    while not samples or time.monotonic() - last_s < _QUIET_S:
        assert time.monotonic() < deadline_s, stage.log()
        assert stage.is_running, stage.log()
        done = _committed(admin, kafka)
        if done and (not samples or done != samples[-1].done):
            last_s = time.monotonic()
            used = processors.used([stage.process.pid]).by_pid[stage.process.pid]
            samples.append(_Sample(last_s, done, used))
        time.sleep(_SAMPLE_S)
    return samples


def _committed(admin: AdminClient, kafka: KafkaConfig) -> int:
    """Returns the sum of all positions that analytics has committed."""
    group = kafka.group("analytics")
    found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group]
    return sum(max(where.offset, 0) for where in found.result(20).topic_partitions)
