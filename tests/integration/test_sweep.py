"""`standpipe sweep` against an upstream that lists, and a real broker: what is asked for."""

import json
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from support.cli import standpipe
from support.crawl import (
    NEW,
    NOW_US,
    OLD,
    asked,
    create_topics,
    requests,
    synchronized,
    wait_readable,
    write_repos,
)
from support.hosts import StartHost, circle, entry, lister, starting_hosts
from support.kafka import wait_until
from support.web import Server

from pipelines.bridge.gaps import Gap, GapReason, Place
from pipelines.bridge.messages import Batch, FoundGap, Outputs, StreamPosition, gaps_of
from pipelines.bridge.upstream import Origin, host_of
from pipelines.compact.state import Sync
from pipelines.config import KafkaConfig
from pipelines.crawl import sweep as sweep_module
from pipelines.crawl.lists import HostList
from pipelines.crawl.sweep import Due, Sweep, due_after
from pipelines.identity.background import BackgroundFetcher
from pipelines.identity.fetching import Fetcher, FetchLimits
from pipelines.identity.pace import PaceLimits
from pipelines.kafka.clients import create_producer
from pipelines.kafka.messages import InputMessage, OutputMessage
from pipelines.relay import service_url
from pipelines.repair.requests import Cause

pytestmark = pytest.mark.broker

FROM_TIME = "2026-09-21T14:13:20Z"  # NOW_US
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


def gap_message(
    config: KafkaConfig, host: str, from_time: str | None = FROM_TIME
) -> OutputMessage:
    """A gap as the bridge writes it."""
    outputs = Outputs(
        frames=config.topic("frames"),
        quarantine=config.topic("quarantine"),
        cursors=config.topic("cursors"),
        epochs=config.topic("epochs"),
        gaps=config.topic("gaps"),
        frames_partitions=1,
        quarantine_partitions=1,
    )
    gap = Gap(GapReason.JUMP, Place(1, from_time))
    found = FoundGap(Origin(host, 1), gap, StreamPosition(9, None, NOW_US + 5))
    (message,) = gaps_of(Batch([], [], [found], {}, {}), outputs, {0: 0})
    return message


def write_gap(config: KafkaConfig, host: str) -> None:
    producer = create_producer(config, f"{config.topic_prefix}.bridge")
    producer.init_transactions(20)
    producer.begin_transaction()
    message = gap_message(config, host, FROM_TIME)
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


def _read(messages: list[OutputMessage]) -> list[InputMessage]:
    return [
        InputMessage(m.topic, m.partition, offset, m.timestamp_ms, m.key, m.value, m.headers)
        for offset, m in enumerate(messages)
    ]


def test_gaps_of_an_upstream_are_answered_together_and_once() -> None:
    config = KafkaConfig()
    times = ["2026-09-21T14:13:20Z", None, "2026-09-21T14:13:19Z", "no time"]
    messages = [gap_message(config, "a.example", time) for time in times]
    messages.insert(2, gap_message(config, "b.example", None))
    found = _read(messages)
    assert due_after({}, found, {}) == {
        "a.example": Due(5, NOW_US - 1_000_000),
        "b.example": Due(3, None),
    }
    first = due_after({}, found[:2], {})
    assert due_after(first, found[2:], {}) == due_after({}, found, {})
    assert due_after({}, found, {"a.example": 5}) == {"b.example": Due(3, None)}
    assert due_after({}, found, {"a.example": 4, "b.example": 3}) == {"a.example": Due(5, None)}


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
        wait_until(lambda: {0, 1} <= asked(config).keys(), "the second gap was not answered")
    finally:
        stop.set()
        thread.join(20)
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
