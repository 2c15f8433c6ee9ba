"""A broker for whoever measures through one, and what a transaction on it costs."""

import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
from confluent_kafka import Consumer
from conftest import free_port
from support.kafka import create_topic

from pipelines.config import KafkaConfig
from pipelines.kafka.broker import LocalBroker, Running
from pipelines.kafka.clients import create_group_consumer
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.transaction import Transaction, TransactionalProducer

TRANSACTIONS_COUNT = 40


class Broker(NamedTuple):
    """A broker that runs.

    Attributes:
        bootstrap_servers: where.
        pid: its process on this machine; None for one that is not ours.
    """

    bootstrap_servers: str
    pid: int | None


def run(_rounds: int) -> None:
    """Prints the time of transactions."""
    with running_broker() as broker:
        measure_transactions(broker.bootstrap_servers)


@contextmanager
def running_broker() -> Iterator[Broker]:
    """Yields the broker that BOOTSTRAP names, or one of our own."""
    if bootstrap := os.environ.get("BOOTSTRAP"):
        yield Broker(bootstrap, None)
        return
    with tempfile.TemporaryDirectory(prefix="standpipe-bench-") as folder:
        local = LocalBroker(Path(folder), port=free_port(), controller_port=free_port())
        try:
            local.start()
            status = local.status()
            assert isinstance(status, Running)
            yield Broker(status.bootstrap_servers, status.pid)
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


def _timed_ms(call: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    call()
    return (time.perf_counter() - started_s) * 1000
