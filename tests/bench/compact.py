"""Compact through a real broker: commits/s with transactions, and records/s of a rebuild."""

import base64
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
from bench.broker import running_broker
from confluent_kafka import Producer
from support.events import commit, create, encode_event

from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.syntax import Did
from pipelines.compact import service
from pipelines.compact.events import Body, CommitEvent, EventOp
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.counts import LoopCounts
from pipelines.kafka.loop import TransactionalLoop
from pipelines.kafka.partition import partition_for

PARTITIONS = 4
REPOS_COUNT = 500
COMMITS_COUNT = 40_000
# As long as those of the network: a commit block, and the record of a like.
_COMMIT_BLOCK = base64.b64encode(bytes(226)).decode()
_SUBJECT = {"uri": f"at://did:plc:{'a' * 24}/app.bsky.feed.post/3l22222222222", "cid": "b" * 59}
_RECORD = {
    "$type": "app.bsky.feed.like",
    "subject": _SUBJECT,
    "createdAt": "2026-11-25T00:00:00.000Z",
}


def run(_rounds: int) -> None:
    """Prints both measurements."""
    with running_broker() as bootstrap, tempfile.TemporaryDirectory() as folder:
        kafka = KafkaConfig(bootstrap, f"bench-{uuid.uuid4().hex[:8]}")
        apply(plan(kafka, PARTITIONS))
        _publish(kafka)
        _measure_commits(kafka, Path(folder))
        _measure_rebuild(kafka, Path(folder))


def _measure_commits(kafka: KafkaConfig, folder: Path) -> None:
    counts = LoopCounts()
    stage = service.create_stage(kafka, folder, is_repairing=True)
    cpu_s, started_s = time.process_time(), time.perf_counter()
    TransactionalLoop(
        kafka,
        stage_name=service.STAGE,
        slot="bench",
        topics=[kafka.topic("events")],
        stage=stage,
        should_stop=lambda: counts.inputs_count >= COMMITS_COUNT,
        counts=counts,
    ).run()
    elapsed_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    assert stage.groups()["repos"] == {"synchronized": REPOS_COUNT}
    stage.close()
    click.echo("compact through the broker, one process, one record a commit")
    click.echo(
        f"  {COMMITS_COUNT / elapsed_s:8.0f} commits/s  {COMMITS_COUNT} commits, "
        f"{REPOS_COUNT} repositories, {counts.transactions_count} transactions, "
        f"{counts.outputs_count} messages, {counts.output_bytes / 1e6:.0f} MB out; "
        f"{cpu_s / COMMITS_COUNT * 1e6:.0f} µs of CPU a commit"
    )


def _measure_rebuild(kafka: KafkaConfig, folder: Path) -> None:
    for what in ("rebuild of a lost store", "start with a current store"):
        stage = service.create_stage(kafka, folder, is_repairing=True)
        if what.startswith("rebuild"):
            shutil.rmtree(folder)
        started_s = time.perf_counter()
        for _ in stage.restore(range(PARTITIONS)):
            pass
        elapsed_s = time.perf_counter() - started_s
        assert stage.groups()["repos"] == {"synchronized": REPOS_COUNT}
        stage.close()
        read = 2 * COMMITS_COUNT if what.startswith("rebuild") else 0
        rate = f"  {read / elapsed_s:8.0f} messages/s" if read else " " * 21
        click.echo(f"{rate}  {what}: {elapsed_s:.2f} s for {COMMITS_COUNT} records")


def _commits() -> Iterator[CommitEvent]:
    received_us = time.time_ns() // 1000
    dids = [Did(f"did:plc:{n:024}") for n in range(REPOS_COUNT)]
    for n in range(COMMITS_COUNT):
        number, did = n // REPOS_COUNT + 1, dids[n % REPOS_COUNT]
        cid = encode_cid(cid_of(b"%d" % n))
        op: EventOp = create(f"app.bsky.feed.like/{n:013}", cid)
        op = op._replace(body=Body(_RECORD, None, None))
        event = commit(number, number - 1 or None, op, did=did, commit_block=_COMMIT_BLOCK)
        yield replace(event, source=event.source._replace(received_us=received_us + n))


def _publish(kafka: KafkaConfig) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 20})
    for event in _commits():
        producer.produce(
            kafka.topic("events"),
            encode_event(event),
            event.did.encode(),
            partition_for(event.did, PARTITIONS),
            timestamp=event.source.received_us // 1000,
        )
        producer.poll(0)
    assert producer.flush(60) == 0
