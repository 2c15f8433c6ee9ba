"""Building an index: records/s from the topics to the library's changes, and into SQLite."""

import os
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click
from bench.broker import running_broker
from bench.processors import load
from confluent_kafka import Producer
from support.admissions import in_force
from support.events import rev

from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.frames import Action
from pipelines.atproto.syntax import Did, parse_path
from pipelines.compact.events import Body, EventOp, Source
from pipelines.compact.outputs import record_messages, repo_message
from pipelines.compact.service import output_topics
from pipelines.compact.state import RepoState, Sync
from pipelines.config import KafkaConfig
from pipelines.consume import Batch, Index
from pipelines.consume.examples.posts import COLLECTION, PostIndex
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.partition import partition_for
from pipelines.kafka.topics import registry

PARTITIONS = 4
REPOS_COUNT = 2_000
RECORDS_COUNT = 50
# As long as posts are on average, with what belongs to a reply.
_TEXT = "a standpipe is the pipe that fire hoses are connected to, number {}"
_REPLY = {"uri": f"at://did:plc:{'a' * 24}/{COLLECTION}/3l2222222222a", "cid": "bafy" + 55 * "a"}


def run(_rounds: int) -> None:
    """Prints how fast an index of posts is built from the beginning."""
    with running_broker() as broker, tempfile.TemporaryDirectory() as folder:
        kafka = KafkaConfig(broker.bootstrap_servers, f"bench-{uuid.uuid4().hex[:8]}")
        apply(plan(kafka, PARTITIONS))
        size_bytes = _publish(kafka)
        count = REPOS_COUNT * RECORDS_COUNT
        click.echo(
            f"an index of {count:,} posts of {REPOS_COUNT:,} accounts, {size_bytes // count} "
            f"bytes of JSON each, from the beginning until it is complete ({load()})"
        )
        _measure("changes of the library, one process", kafka, count, lambda _: None)
        with closing(PostIndex(Path(folder) / "posts.db")) as posts:
            _measure("the full-text index in SQLite", kafka, count, posts.apply)
            assert posts.count() == count


def _measure(what: str, kafka: KafkaConfig, count: int, apply: Callable[[Batch], None]) -> None:
    started_s, started_cpu_s = time.perf_counter(), _processor_s()
    changes_count = 0
    for batch in Index(kafka, [COLLECTION], {}).batches():
        apply(batch)
        changes_count += len(batch.changes)
        if batch.is_complete:
            break
    elapsed_s = time.perf_counter() - started_s
    cpu_s = _processor_s() - started_cpu_s
    assert changes_count == count + REPOS_COUNT
    click.echo(
        f"  {count / elapsed_s:8,.0f} records/s  {what}; "
        f"{cpu_s / count * 1e6:.0f} µs of CPU a record"
    )


def _processor_s() -> float:
    times = os.times()
    return times.user + times.system


def _publish(kafka: KafkaConfig) -> int:
    """Writes every account and its posts; returns the bytes of the values of posts."""
    admissions = in_force((registry().admitted_collections, [0] * PARTITIONS))
    topics = output_topics(kafka, registry(), admissions)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 20})
    size_bytes = 0
    for number in range(REPOS_COUNT):
        did = Did(f"did:plc:{number:024}")
        partition = partition_for(did, PARTITIONS)
        source = Source(
            "relay.example", number, "2026-11-01T00:00:00Z", 1_764_000_000_000_000, 0, 0
        )
        ops = [_op(n) for n in range(RECORDS_COUNT)]
        state = RepoState(did, source, sync=Sync.SYNCHRONIZED)
        records = record_messages(did, rev(number), ops, source, partition, topics)
        size_bytes += sum(len(message.value or b"") for message in records)
        for message in (repo_message(state, partition, topics), *records):
            producer.produce(
                message.topic,
                message.value,
                message.key,
                partition,
                headers=list(message.headers),
                timestamp=message.timestamp_ms,
            )
        producer.poll(0)
        if len(producer) > 50_000:
            producer.flush(60)
    assert producer.flush(60) == 0
    return size_bytes


def _op(number: int) -> EventOp:
    record = {
        "$type": COLLECTION,
        "text": _TEXT.format(number),
        "langs": ["en"],
        "reply": {"root": _REPLY, "parent": _REPLY},
        "createdAt": "2026-11-01T00:00:00.000Z",
    }
    cid = encode_cid(cid_of(b"%d" % number))
    path = parse_path(f"{COLLECTION}/3l{number:011}")
    return EventOp(Action.CREATE, *path, cid, None, Body(record, None, None))
