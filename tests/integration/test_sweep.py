"""`standpipe sweep` against an upstream that lists, and a real broker: what is asked for."""

import json
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from support.cli import standpipe
from support.crawl import (
    NEW,
    NOW_TIME,
    OLD,
    asked,
    create_topics,
    gap_message,
    requests,
    synchronized,
    wait_readable,
    write_repos,
)
from support.hosts import StartHost, circle, entry, lister, starting_hosts
from support.kafka import wait_until
from support.web import Server

from pipelines.compact.state import Sync
from pipelines.config import KafkaConfig
from pipelines.crawl import sweep as sweep_module
from pipelines.crawl.lists import HostList
from pipelines.crawl.progress import Job
from pipelines.crawl.sweep import Sweep
from pipelines.crawl.writing import stored_progress
from pipelines.identity.background import BackgroundFetcher
from pipelines.identity.fetching import Fetcher, FetchLimits
from pipelines.identity.pace import PaceLimits
from pipelines.kafka.clients import create_producer
from pipelines.relay import host_of, service_url
from pipelines.repair.requests import Cause

pytestmark = pytest.mark.broker

LIMITS = FetchLimits(PaceLimits(1, 1_000, 1_000), 8)


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    create_topics(config)
    return config


@pytest.fixture
def host() -> Iterator[StartHost]:
    with starting_hosts() as start:
        yield start


@pytest.fixture
def background() -> Iterator[BackgroundFetcher]:
    with BackgroundFetcher(Fetcher(LIMITS), "lists") as background:
        yield background


def write_gap(config: KafkaConfig, host: str) -> None:
    producer = create_producer(config, f"{config.topic_prefix}.bridge")
    producer.init_transactions(20)
    producer.begin_transaction()
    message = gap_message(config, host, NOW_TIME)
    producer.produce(message.topic, message.value, message.key, message.partition)
    producer.commit_transaction(20)
    wait_readable(config, "gaps")


def sweeper(
    config: KafkaConfig,
    background: BackgroundFetcher,
    stop: threading.Event | None = None,
    *,
    follows: bool = False,
) -> Sweep:
    return Sweep(
        config,
        lambda host: HostList(service_url(host), background),
        stop or threading.Event(),
        follows=follows,
    )


def test_what_changed_in_the_gap_is_asked_for_and_nothing_else(
    config: KafkaConfig, background: BackgroundFetcher, host: StartHost
) -> None:
    listed = [
        entry(0, OLD),  # as here
        entry(1, NEW),  # a commit is missing here
        entry(2, OLD, active=False, status="takendown"),
        entry(3, OLD),  # active again
        entry(4, OLD),  # never seen, and quiet since before the gap
        entry(5, NEW),  # never seen, and made in the gap
        entry(6, NEW),  # its repair has been asked for
    ]
    server = host(lister(listed))
    name = host_of(server.url)
    write_repos(
        config,
        [
            *(synchronized(number, OLD, name) for number in range(3)),
            synchronized(3, OLD, name, active=False, status="deactivated"),
            synchronized(6, NEW, name, sync=Sync.DESYNCHRONIZED),
            synchronized(7, OLD, name),  # no longer listed
            synchronized(8, OLD, "other.example"),  # of another upstream
            synchronized(9, OLD, name, active=False, status="deleted"),
        ],
    )
    write_gap(config, name)
    sweep = sweeper(config, background)
    sweep.run()
    assert (sweep.due, sweep.problems) == ({}, {})
    assert asked(config) == Counter([1, 2, 3, 5, 7])
    assert {(request.cause, request.host) for request in requests(config)} == {(Cause.SWEEP, None)}
    sweeper(config, background).run()
    assert asked(config).total() == 5


def test_a_sweep_that_was_ended_begins_anew_and_one_that_follows_answers_the_next_gap(
    config: KafkaConfig,
    background: BackgroundFetcher,
    host: StartHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep_module, "POLL_INTERVAL_S", 0.05)
    monkeypatch.setattr(sweep_module, "RETRY_INTERVAL_S", 0.1)
    liar, server = host(circle([entry(3, NEW)])), host(lister([entry(0, NEW), entry(1, NEW)]))
    stop = threading.Event()
    # Its first page is written; the end of the list, and that the gap is answered, is not.
    write_gap(config, host_of(liar.url))
    sweep = sweeper(config, background)
    sweep.run()
    assert list(sweep.due) == [host_of(liar.url)]
    assert "cursor that was there before" in sweep.problems[host_of(liar.url)]
    following = sweeper(config, background, stop, follows=True)
    thread = threading.Thread(target=following.run)
    thread.start()
    try:
        write_gap(config, host_of(server.url))
        answered = f"gaps {host_of(server.url)}"
        wait_until(
            lambda: answered in stored_progress(config, Job.SWEEP), "the second gap is answered"
        )
    finally:
        stop.set()
        thread.join(120)
    assert not thread.is_alive()
    # The gap of the one that lies waits; a page of it is asked for again each time.
    assert set(following.due) == {host_of(liar.url)}
    assert asked(config)[0] == asked(config)[1] == 1


def test_the_command_says_what_it_did(config: KafkaConfig, host: StartHost) -> None:
    server: Server = host(lister([entry(number, NEW) for number in range(5)]))
    write_gap(config, host_of(server.url))
    arguments = ["sweep", "--bootstrap-servers", config.bootstrap_servers]
    arguments += ["--topic-prefix", config.topic_prefix, "--json"]
    result = standpipe(*arguments)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["requested"] == 5
    assert asked(config) == Counter(range(5))
    assert json.loads(standpipe(*arguments).stdout)["requested"] == 0
