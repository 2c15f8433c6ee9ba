"""Through a real broker: what a transaction costs, and explode as a whole."""

import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
from bench.hot_path import recording_folder
from confluent_kafka import Consumer, Producer
from conftest import free_port
from support.identities import RecordedResolver
from support.kafka import create_topic
from support.recordings import load_recording

from pipelines.atproto.frames import parse_envelope
from pipelines.config import KafkaConfig
from pipelines.explode import service
from pipelines.identity.offline import OfflineKeys
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.broker import LocalBroker
from pipelines.kafka.clients import create_group_consumer
from pipelines.kafka.loop import TransactionalLoop
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.transaction import Transaction, TransactionalProducer

PARTITIONS = 4
TRANSACTIONS_COUNT = 40
# Enough for some seconds of work: the short recordings are repeated.
EXPLODE_FRAMES_COUNT = 15_000


def run(_rounds: int) -> None:
    """Prints both measurements."""
    with running_broker() as bootstrap:
        measure_transactions(bootstrap)
        click.echo()
        recording = load_recording(recording_folder())
        measure_explode(bootstrap, recording.frames, recording.keys)


@contextmanager
def running_broker() -> Iterator[str]:
    """Yields the bootstrap servers of the broker that BOOTSTRAP names, or of one of our own."""
    if bootstrap := os.environ.get("BOOTSTRAP"):
        yield bootstrap
        return
    with tempfile.TemporaryDirectory(prefix="standpipe-bench-") as folder:
        local = LocalBroker(Path(folder), port=free_port(), controller_port=free_port())
        try:
            local.start()
            yield local.bootstrap_servers
        finally:
            local.stop()


def measure_transactions(bootstrap: str) -> None:
    """Prints the time of one transaction by the number of partitions it touches."""
    kafka = KafkaConfig(bootstrap, f"bench-{uuid.uuid4().hex[:8]}")
    source, target = create_topic(kafka, "in", 1), create_topic(kafka, "out", 100)
    consumer = create_group_consumer(kafka, kafka.group("bench"))
    consumer.subscribe([source])
    while not consumer.assignment():
        consumer.poll(0.2)
    producer = TransactionalProducer(kafka, kafka.transactional_id("bench", "0"), lambda: False)
    producer.start()
    click.echo("transaction with offsets, one message of 1 kB a partition")
    for touched in (1, 20, 100):
        times_ms = sorted(
            _timed_ms(partial(_transact, producer, consumer, source, target, touched, n))
            for n in range(TRANSACTIONS_COUNT)
        )
        click.echo(
            f"  {touched:3} partitions  median {statistics.median(times_ms):6.1f} ms  "
            f"p90 {times_ms[int(0.9 * len(times_ms))]:6.1f} ms"
        )
    consumer.close()


def _transact(
    producer: TransactionalProducer,
    consumer: Consumer,
    source: str,
    target: str,
    touched: int,
    n: int,
) -> None:
    def body(transaction: Transaction) -> None:
        for partition in range(touched):
            transaction.produce(OutputMessage(target, partition, None, bytes(1000), [], 0))
        transaction.send_offsets({(source, 0): n + 1}, consumer.consumer_group_metadata())

    producer.run(body)


def measure_explode(bootstrap: str, frames: Sequence[bytes], keys: OfflineKeys) -> None:
    """Prints the frames/s of one explode worker, from `frames` to its committed outputs."""
    kafka = KafkaConfig(bootstrap, f"bench-{uuid.uuid4().hex[:8]}")
    apply(plan(kafka, PARTITIONS))
    rounds = -(-EXPLODE_FRAMES_COUNT // len(frames))
    count = rounds * len(frames)
    _publish(kafka, [*frames] * rounds)
    loop: TransactionalLoop | None = None

    def is_done() -> bool:
        return loop is not None and loop.counts.inputs_count >= count

    with tempfile.TemporaryDirectory(prefix="standpipe-bench-") as folder:
        stage = service.create_stage(kafka, RecordedResolver(keys), Path(folder))
        loop = TransactionalLoop(
            kafka,
            stage_name="explode",
            slot="bench",
            topics=[kafka.topic("frames")],
            stage=stage,
            should_stop=is_done,
        )
        cpu_s = time.process_time()
        elapsed_s = _timed_ms(loop.run) / 1000
        cpu_s = time.process_time() - cpu_s
        stage.close()
    counts = loop.counts
    click.echo("explode through the broker, one worker, keys in memory")
    click.echo(
        f"  {count / elapsed_s:8.0f} frames/s  {counts.inputs_count} frames, "
        f"{counts.transactions_count} transactions, {counts.outputs_count} messages, "
        f"{counts.output_bytes / 1e6:.0f} MB out; {cpu_s / count * 1e6:.0f} µs of CPU a frame"
    )


def _publish(kafka: KafkaConfig, frames: Sequence[bytes]) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 20})
    received_us = time.time_ns() // 1000
    for frame in frames:
        envelope = parse_envelope(frame)
        did = envelope.did or ""
        while True:
            try:
                producer.produce(
                    kafka.topic("frames"),
                    frame,
                    did.encode(),
                    partition_for(did, PARTITIONS),
                    headers=[
                        ("host", b"bench"),
                        ("seq", str(envelope.seq).encode()),
                        ("kind", envelope.kind.encode()),
                        ("received_us", str(received_us).encode()),
                    ],
                    timestamp=received_us // 1000,
                )
            except BufferError:
                producer.poll(0.1)
            else:
                break
    assert producer.flush(60) == 0


def _timed_ms(call: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    call()
    return (time.perf_counter() - started_s) * 1000
