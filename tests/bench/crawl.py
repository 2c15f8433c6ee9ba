"""Backfill through a real broker: a host's list compared with what is known, and asked for."""

import tempfile
import threading
import time
import uuid
from pathlib import Path
from unittest import mock

import click
from bench.broker import running_broker
from confluent_kafka import Producer
from support.crawl import NEW, OLD, PARTITIONS, create_topics, synchronized
from support.hosts import did, entry, lister
from support.pipeline import full_network, run_command, running_pipeline
from support.web import running_server

from pipelines.compact.outputs import repo_message
from pipelines.compact.service import output_topics
from pipelines.config import KafkaConfig
from pipelines.crawl import writing
from pipelines.crawl.backfill import Backfill
from pipelines.crawl.candidates import Judgment
from pipelines.crawl.census import Census
from pipelines.crawl.lists import HostList
from pipelines.identity.background import BackgroundFetcher
from pipelines.identity.fetching import Fetcher, FetchLimits
from pipelines.identity.pace import PaceLimits
from pipelines.kafka.admitting import deployed
from pipelines.kafka.partition import partition_for
from pipelines.kafka.reading import read_to_end
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Settings
from pipelines.sim.service import SimServer

LISTED_COUNT = 60_000
KNOWN_COUNT = 30_000
PAGE_SIZE = 1_000
REPOS_COUNT = 1_000
RECORDS_COUNT = 20
HOSTS_COUNT = 4
DEADLINE_S = 240.0


def run(_rounds: int) -> None:
    """Prints how fast repositories are compared, asked for, and here in the end."""
    with running_broker() as broker:
        kafka = KafkaConfig(broker.bootstrap_servers, f"bench-{uuid.uuid4().hex[:8]}")
        create_topics(kafka)
        _publish(kafka)
        click.echo("backfill through the broker, up to the requests")
        _measure_census(kafka)
        _measure_backfill(kafka)
        _measure_repair(broker.bootstrap_servers)


def _measure_census(kafka: KafkaConfig) -> None:
    with tempfile.TemporaryDirectory() as folder:
        started_s = time.perf_counter()
        known = Census(kafka, PARTITIONS, Path(folder))
        elapsed_s = time.perf_counter() - started_s
        assert known.get(did(0)) is not None
        known.close()
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    click.echo(
        f"  {KNOWN_COUNT / elapsed_s:8.0f} repositories/s  what is known is read; "
        f"{size / KNOWN_COUNT:.0f} bytes on disk for each"
    )


def _measure_backfill(kafka: KafkaConfig) -> None:
    entries = [entry(number, OLD if number % 2 else NEW) for number in range(LISTED_COUNT)]
    limits = FetchLimits(PaceLimits(1, 1e6, 1_000), 1)
    with (
        # Nobody takes the requests over here.
        mock.patch.object(writing, "MAX_OUTSTANDING_COUNT", 2 * LISTED_COUNT),
        running_server(lister(entries, PAGE_SIZE)) as server,
        BackgroundFetcher(Fetcher(limits, takes_gzip=True), "lists") as background,
    ):
        backfill = Backfill(
            kafka,
            [HostList(server.url, background)],
            threading.Event(),
            lambda _rate: None,
            expected_count=None,
            concurrent_count=1,
        )
        started_s = time.perf_counter()
        tally = backfill.run()
        elapsed_s = time.perf_counter() - started_s
    assert tally.is_complete
    requested_count = tally.counts[Judgment.REQUESTED]
    assert requested_count == LISTED_COUNT - KNOWN_COUNT // 2
    click.echo(
        f"  {LISTED_COUNT / elapsed_s:8.0f} repositories/s  {LISTED_COUNT} listed by one host, "
        f"{requested_count} of them asked for, what is known read before"
    )


def _measure_repair(bootstrap: str) -> None:
    """The whole way: listed, asked for, fetched, proven and applied, each stage a process."""
    kafka = KafkaConfig(bootstrap, f"bench-{uuid.uuid4().hex[:8]}")
    settings = Settings(REPOS_COUNT, records_count=RECORDS_COUNT, hosts_count=HOSTS_COUNT)
    network = GeneratedNetwork(settings, events_count=10)
    with (
        tempfile.TemporaryDirectory() as folder,
        SimServer(network) as sim,
        running_pipeline(kafka, sim.addresses, Path(folder), PARTITIONS) as pipeline,
    ):
        pipeline.start_compact()
        pipeline.start_resync()
        started_s = time.perf_counter()
        result = run_command(kafka, *full_network(sim.addresses))
        assert result.returncode == 0, result.stderr
        asked_s = time.perf_counter() - started_s
        while _synchronized_count(kafka) < REPOS_COUNT:
            assert time.perf_counter() - started_s < DEADLINE_S
            time.sleep(0.5)
        elapsed_s = time.perf_counter() - started_s
    click.echo(
        f"  {REPOS_COUNT / elapsed_s:8.1f} repositories/s  {REPOS_COUNT} of {RECORDS_COUNT} "
        f"records on {HOSTS_COUNT} hosts, until all are applied; asked for within {asked_s:.1f} "
        "s, the start of that process included"
    )


def _synchronized_count(kafka: KafkaConfig) -> int:
    synchronized = set()
    for message in read_to_end(kafka, [kafka.topic("repos")]):
        if dict(message.headers)["sync"] == b"synchronized":
            synchronized.add(message.key)
    return len(synchronized)


def _publish(kafka: KafkaConfig) -> None:
    topics = output_topics(kafka, *deployed(kafka))
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 20})
    for number in range(KNOWN_COUNT):
        repository = did(number)
        partition = partition_for(repository, PARTITIONS)
        message = repo_message(synchronized(number, OLD), partition, topics)
        producer.produce(message.topic, message.value, message.key, partition)
        producer.poll(0)
    assert producer.flush(60) == 0
