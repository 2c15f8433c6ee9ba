"""`standpipe sweep` against an upstream that lists, and a real broker: what is asked for."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from aiohttp import web
from support.cli import running_standpipe, standpipe
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
from support.kafka import commit_positions, produce, wait_until
from support.web import DEADLINE_S, Server

from pipelines.compact.state import Sync
from pipelines.config import KafkaConfig
from pipelines.crawl import round as round_module
from pipelines.crawl import sweep as sweep_module
from pipelines.crawl.candidates import Judgment
from pipelines.crawl.lists import HostList
from pipelines.crawl.progress import Job
from pipelines.crawl.round import HELD_PAGES_COUNT
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
            synchronized(3, OLD, name, upstream_active=False, upstream_status="deactivated"),
            synchronized(6, NEW, name, sync=Sync.DESYNCHRONIZED),
            synchronized(7, OLD, name),  # no longer listed
            synchronized(8, OLD, "other.example"),  # of another upstream
            synchronized(9, OLD, name, upstream_active=False, upstream_status="deleted"),
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


def test_a_sweep_goes_on_wherever_it_was_ended_and_asks_for_each_once(
    config: KafkaConfig,
    background: BackgroundFetcher,
    host: StartHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ended after each of its transactions: two pages at once, or one account that went."""
    monkeypatch.setattr(round_module, "HELD_PAGES_COUNT", 2)
    monkeypatch.setattr(round_module, "PAGE_LIMIT", 1)
    server = host(lister([entry(number, NEW if number % 2 else OLD) for number in range(4)], 1))
    name = host_of(server.url)
    write_repos(config, [synchronized(number, OLD, name) for number in range(6)])
    write_gap(config, name)
    steps = []
    for _ in range(4):
        sweep = _ended_after_its_next_transaction(config, background)
        sweep.run()
        assert list(sweep.due) == [name]
        steps.append(sorted(asked(config).elements()))
    # Twice two pages, then the two that went.
    assert steps == [[1], [1, 3], [1, 3, 4], [1, 3, 4, 5]]
    # A page may have been asked for when the sweep was ended.
    assert max(Counter(server.paths).values()) <= 2
    write_gap(config, name)  # is answered by a sweep of its own
    sweep = sweeper(config, background)
    sweep.run()
    assert (list(sweep.due), sweep.counts.total()) == ([name], 0)
    found = stored_progress(config, Job.SWEEP)
    assert list(found) == [f"gaps {name}"]
    assert found[f"gaps {name}"].listed_count == 4 + 2
    sweep = sweeper(config, background)
    sweep.run()
    assert (sweep.due, sweep.counts[Judgment.REQUESTED]) == ({}, 4)


def _ended_after_its_next_transaction(config: KafkaConfig, background: BackgroundFetcher) -> Sweep:
    stop = threading.Event()
    sweep = sweeper(config, background, stop)
    # The counts are told right after a commit.
    count = sweep._count

    def count_and_stop(counts: Counter[Judgment]) -> None:
        count(counts)
        stop.set()

    sweep._count = count_and_stop  # type: ignore[method-assign]  # ends it there
    return sweep


def test_a_sweep_that_is_killed_goes_on_after_the_pages_that_it_wrote(
    config: KafkaConfig, host: StartHost
) -> None:
    count = 2 * HELD_PAGES_COUNT + 5
    listed = [entry(number, NEW) for number in range(count)]
    is_held, may_answer = threading.Event(), threading.Event()
    pages = lister(listed, page_size=1)

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.query.get("cursor") == str(count - 1) and not may_answer.is_set():
            is_held.set()
            await asyncio.to_thread(may_answer.wait, DEADLINE_S)
        return await pages(request)

    server = host(handler)
    # Listed on pages before the kill, so that whoever goes on must not take it for gone.
    write_repos(config, [synchronized(number, OLD, host_of(server.url)) for number in range(9)])
    write_gap(config, host_of(server.url))
    arguments = ["sweep", "--bootstrap-servers", config.bootstrap_servers]
    arguments += ["--topic-prefix", config.topic_prefix, "--rate", "1000"]
    with running_standpipe(*arguments) as process:
        wait_until(is_held.is_set, "the last page to be asked for")
        process.kill()
    may_answer.set()
    before = len(server.paths)
    assert before == count
    assert asked(config).total() == 2 * HELD_PAGES_COUNT
    result = standpipe(*arguments)
    assert result.returncode == 0, result.stderr
    assert asked(config) == Counter(range(count))
    assert len(server.paths) - before == 5


def test_what_the_stages_have_not_processed_yet_is_waited_for(
    config: KafkaConfig, background: BackgroundFetcher, host: StartHost
) -> None:
    server = host(lister([entry(0, NEW), entry(1, NEW)]))
    name = host_of(server.url)
    write_repos(config, [synchronized(number, OLD, name) for number in range(2)])
    # Whatever is in them, nobody has processed it.
    produce(config, config.topic("frames"), [(0, b"frame")])
    produce(config, config.topic("events"), [(1, b"event")])
    write_gap(config, name)
    stop = threading.Event()
    sweep = sweeper(config, background, stop)
    thread = threading.Thread(target=sweep.run)
    thread.start()
    try:
        wait_until(lambda: _waits_for(sweep, "explode"), "explode to be waited for")
        commit_positions(config, "explode", "frames")
        wait_until(lambda: _waits_for(sweep, "compact"), "compact to be waited for")
        assert requests(config) == []
        write_repos(config, [synchronized(0, NEW, name)])
        commit_positions(config, "compact", "events")
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    finally:
        stop.set()
        thread.join()
    assert asked(config) == Counter([1])
    assert sweep.counts == Counter({Judgment.REQUESTED: 1, Judgment.SYNCHRONIZED: 1})
    assert sweep.report().detail is None


def _waits_for(sweep: Sweep, stage: str) -> bool:
    return (sweep.report().detail or "").startswith(f"{stage} has not processed")


def test_a_list_that_cannot_be_read_waits_and_one_that_follows_answers_the_next_gap(
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
