"""Repairs through a real broker: records/s from a manifest in `snapshots` to `latest.*`."""

import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import click
from bench.broker import running_broker
from confluent_kafka import Producer
from support.answers import snapshot_of
from support.events import DID, rev

from pipelines.atproto import cbor
from pipelines.atproto.cid import cid_of
from pipelines.compact import service
from pipelines.compact.accounts import Policy
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.counts import LoopCounts
from pipelines.kafka.loop import TransactionalLoop
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.reading import log_ends
from pipelines.repair.chunks import CHUNK_BYTES, chunk_message, encode_chunk, encode_record
from pipelines.repair.manifests import manifest_message

PARTITIONS = 4
RECORDS_COUNT = 60_000
# As long as the likes of the network.
_RECORD = {
    "$type": "app.bsky.feed.like",
    "subject": {
        "uri": f"at://did:plc:{'a' * 24}/app.bsky.feed.post/3l22222222222",
        "cid": "b" * 59,
    },
    "createdAt": "2026-11-25T00:00:00.000Z",
}


def run(_rounds: int) -> None:
    """Prints how fast the records of a snapshot are applied, and how fast compared."""
    with running_broker() as broker, tempfile.TemporaryDirectory() as folder:
        kafka = KafkaConfig(broker.bootstrap_servers, f"bench-{uuid.uuid4().hex[:8]}")
        apply(plan(kafka, PARTITIONS))
        click.echo(f"repair through the broker, one process, {RECORDS_COUNT:,} records")
        for number, what in ((1, "all are new"), (2, "all but one are held")):
            _publish(kafka, number, RECORDS_COUNT + number - 1)
            _measure(kafka, Path(folder), what)


def _measure(kafka: KafkaConfig, folder: Path, what: str) -> None:
    counts = LoopCounts()
    stage = service.create_stage(kafka, folder, Policy())
    moments: list[tuple[float, float]] = []

    def is_done() -> bool:
        has_begun = "answers" in stage.groups()
        is_over = has_begun and stage.groups()["repos"] == {"synchronized": 1}
        if has_begun and (is_over or not moments):
            moments.append((time.perf_counter(), time.process_time()))
        return is_over

    TransactionalLoop(
        kafka,
        stage_name=service.STAGE,
        slot="bench",
        topics=[kafka.topic(name) for name in service.INPUTS],
        stage=stage,
        should_stop=is_done,
        counts=counts,
    ).run()
    stage.close()
    (start_s, start_cpu_s), *_, (end_s, end_cpu_s) = moments
    click.echo(
        f"  {RECORDS_COUNT / (end_s - start_s):8,.0f} records/s  {what}: "
        f"{(end_cpu_s - start_cpu_s) / RECORDS_COUNT * 1e6:.0f} µs of CPU a record, "
        f"{counts.transactions_count} transactions, {counts.output_bytes / 1e6:.0f} MB out"
    )


def _publish(kafka: KafkaConfig, number: int, records_count: int) -> None:
    """Writes a repository as the stage does that fetches it."""
    where = (kafka.topic("chunks"), partition_for(DID, PARTITIONS))
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 20})
    now_us = time.time_ns() // 1000
    first = log_ends(kafka, [where])[where]
    values = list(_chunks(number, records_count))
    _write(
        producer,
        *(chunk_message(DID, rev(number), value, now_us, where[1], where[0]) for value in values),
    )
    manifest = snapshot_of(
        number,
        records_count,
        values,
        first_chunk_offset=first,
        end_chunk_offset=log_ends(kafka, [where])[where],
        fetched_us=now_us,
    )
    _write(producer, manifest_message(manifest, where[1], kafka.topic("snapshots")))


def _write(producer: Producer, *messages: OutputMessage) -> None:
    for message in messages:
        producer.produce(
            message.topic,
            message.value,
            message.key,
            message.partition,
            timestamp=message.timestamp_ms,
        )
        producer.poll(0)
    assert producer.flush(60) == 0


def _chunks(number: int, records_count: int) -> Iterator[bytes]:
    block = cbor.encode(_RECORD)
    cid = cid_of(block)
    pending: list[bytes] = []
    size_bytes = index = 0
    for n in range(records_count):
        pending.append(encode_record("app.bsky.feed.like", f"{n:013}", cid, block))
        size_bytes += len(pending[-1])
        if size_bytes >= CHUNK_BYTES or n + 1 == records_count:
            yield encode_chunk(DID, rev(number), index, pending)
            pending, size_bytes, index = [], 0, index + 1
