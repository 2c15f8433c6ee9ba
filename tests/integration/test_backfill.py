"""`standpipe backfill` against hosts that list, and a real broker: what is asked for, and once."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from support.cli import standpipe
from support.crawl import (
    NEW,
    OLD,
    asked,
    create_topics,
    requests,
    synchronized,
    wait_readable,
    write_repos,
)
from support.frames import NOW_US
from support.hosts import StartHost, circle, did, entry, lister, relay, starting_hosts
from support.pipeline import full_network, run_command

from pipelines.atproto.syntax import Did
from pipelines.compact.state import Sync
from pipelines.config import KafkaConfig
from pipelines.crawl import writing
from pipelines.crawl.backfill import SLOT, Backfill, Tally
from pipelines.crawl.candidates import Judgment
from pipelines.crawl.lists import HostList
from pipelines.crawl.progress import Job, State
from pipelines.crawl.rate import Rate
from pipelines.crawl.writing import RequestWriter, stored_progress
from pipelines.errors import FencedError
from pipelines.identity.background import BackgroundFetcher
from pipelines.identity.fetching import Fetcher, FetchLimits, Guard
from pipelines.identity.pace import PaceLimits
from pipelines.repair.requests import Cause, Request
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Settings
from pipelines.sim.service import SimServer
from pipelines.sim.state import HostFaults

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
    with BackgroundFetcher(Fetcher(LIMITS, Guard(allow_loopback=True)), "lists") as background:
        yield background


def run(
    config: KafkaConfig,
    lists: Sequence[HostList],
    *,
    stop: threading.Event | None = None,
    on_progress: Callable[[Rate], None] = lambda _rate: None,
    begins_anew: bool = False,
) -> Tally:
    backfill = Backfill(
        config,
        lists,
        stop or threading.Event(),
        on_progress,
        expected_count=None,
        concurrent_count=4,
    )
    return backfill.run(begins_anew=begins_anew)


def test_what_is_missing_is_asked_for_and_what_is_here_is_not(
    config: KafkaConfig,
    background: BackgroundFetcher,
    host: StartHost,
) -> None:
    write_repos(
        config,
        [
            synchronized(0, NEW),
            synchronized(1, OLD),
            synchronized(2, OLD, sync=Sync.DESYNCHRONIZED),
            synchronized(3, OLD, upstream_active=False, upstream_status="takendown"),
        ],
    )
    listed = [entry(number, NEW) for number in range(3)]
    listed += [entry(3, NEW, active=False, status="takendown"), entry(4, NEW), entry(5, "")]
    first, second = host(lister(listed)), host(lister([entry(4, NEW), entry(6, NEW)]))
    lists = [HostList(first.url, background), HostList(second.url, background)]
    tally = run(config, lists)
    assert tally.is_complete
    assert asked(config) == Counter([1, 2, 4, 5, 6])
    assert tally.counts == {
        Judgment.REQUESTED: 5,
        Judgment.SYNCHRONIZED: 1,
        Judgment.INACTIVE: 1,
        Judgment.REPEATED: 1,
    }
    by_did = {request.did: request for request in requests(config)}
    assert by_did[did(6)].host == second.url
    assert {request.cause for request in by_did.values()} == {Cause.BACKFILL}
    again = run(config, lists)
    assert (again.is_complete, again.before_count, again.listed_count) == (True, 2, 0)
    assert asked(config).total() == 5
    assert run(config, lists, begins_anew=True).counts[Judgment.REQUESTED] == 5


def test_wherever_it_is_stopped_it_goes_on_and_asks_for_each_once(
    config: KafkaConfig,
    background: BackgroundFetcher,
    host: StartHost,
) -> None:
    count = 20
    server = host(lister([entry(number, NEW) for number in range(count)], page_size=4))
    lists = [HostList(server.url, background)]
    stop = threading.Event()
    tally = run(config, lists, stop=stop, on_progress=lambda _rate: stop.set())
    assert not tally.is_complete
    assert asked(config) == Counter(range(4))

    def crash(_rate: Rate) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(config, lists, on_progress=crash)
    assert asked(config) == Counter(range(8))
    assert run(config, lists).is_complete
    assert asked(config) == Counter(range(count))
    progress = stored_progress(config, Job.BACKFILL)[lists[0].subject]
    assert (progress.state, progress.listed_count) == (State.DONE, count)


def test_a_second_backfill_ends_the_first(
    config: KafkaConfig,
    background: BackgroundFetcher,
    host: StartHost,
) -> None:
    server = host(lister([entry(number, NEW) for number in range(12)], page_size=4))
    lists = [HostList(server.url, background)]

    def start_rival(_rate: Rate) -> None:
        RequestWriter(config, SLOT, threading.Event()).close()

    with pytest.raises(FencedError, match="another backfill"):
        run(config, lists, on_progress=start_rival)
    assert asked(config) == Counter(range(4))
    assert run(config, lists).is_complete
    assert asked(config) == Counter(range(12))


def test_it_waits_while_what_it_asked_for_has_not_been_taken_over(
    config: KafkaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MAX_OUTSTANDING_COUNT", 3)
    monkeypatch.setattr(writing, "LOOK_INTERVAL_S", 0.0)  # it looks each time
    stop = threading.Event()
    with closing(RequestWriter(config, "backfill", stop)) as writer:
        writer.wait_for_room()  # there is room
        writer.write([Request(did(n), Cause.BACKFILL, None, None, None, NOW_US) for n in range(3)])
        wait_readable(config, "resyncs")
        waiting = threading.Thread(target=writer.wait_for_room)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        _commit_all(config)
        waiting.join(120)
        assert not waiting.is_alive()


def _commit_all(config: KafkaConfig) -> None:
    """Takes everything over, as the stage resync does."""
    ends = wait_readable(config, "resyncs")
    consumer = Consumer(
        {"bootstrap.servers": config.bootstrap_servers, "group.id": config.group("resync")}
    )
    consumer.commit(
        offsets=[TopicPartition(*where, end) for where, end in ends.items()],
        asynchronous=False,
    )
    consumer.close()


def test_the_command_reads_the_hosts_of_a_relay_and_names_those_that_lie(
    config: KafkaConfig, host: StartHost
) -> None:
    honest = host(lister([entry(number, NEW) for number in range(5)]))
    liar = host(circle([entry(number, NEW) for number in range(3, 8)]))
    listed: list[dict[str, object]] = [
        {"hostname": f"127.0.0.1:{honest.port}", "status": "active", "accountCount": 5},
        {"hostname": f"127.0.0.1:{liar.port}"},
        {"hostname": "banned.example", "status": "banned"},
    ]
    hub = host(relay(listed))
    arguments = ["backfill", "--full-network", "--relay", hub.url, "--allow-loopback", "--json"]
    arguments += ["--bootstrap-servers", config.bootstrap_servers]
    arguments += ["--topic-prefix", config.topic_prefix]
    result = standpipe(*arguments)
    assert result.returncode == 1, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["lists"], summary["lists_read"], summary["complete"]) == (2, 1, False)
    assert list(summary["problems"]) == [f"repos {liar.url}"]
    assert "cursor that was there before" in result.stderr
    assert asked(config) == Counter(range(8))
    # Without the leave to ask this machine, a relay cannot send us there.
    refused = standpipe(*(part for part in arguments if part != "--allow-loopback"), "--again")
    assert refused.returncode == 1
    assert refused.stderr.count("not read to its end") == 2
    assert len(honest.paths) == 2


def test_the_command_asks_for_the_accounts_in_a_file(config: KafkaConfig, tmp_path: Path) -> None:
    path = tmp_path / "dids"
    path.write_text(f"# ours\n{did(1)}\nnobody\n{did(2)}\n")
    arguments = ["backfill", "--dids", str(path), "--json"]
    arguments += ["--bootstrap-servers", config.bootstrap_servers]
    arguments += ["--topic-prefix", config.topic_prefix]
    result = standpipe(*arguments)
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["requested"], summary["invalid"], summary["complete"]) == (2, 1, True)
    assert asked(config) == Counter({1: 1, 2: 1})


def test_a_generated_network_is_asked_for_whole_whatever_some_of_its_hosts_say(
    config: KafkaConfig,
) -> None:
    settings = Settings(accounts_count=40, seed=5, records_count=1, hosts_count=4)
    network = GeneratedNetwork(settings, events_count=10)
    names = network.list_hosts()
    endless, inventive, wrong = names[:3]
    with SimServer(network) as sim:
        sim.faults.hosts = {
            endless: HostFaults(is_endless=True),
            inventive: HostFaults(unknown_count=3),
            wrong: HostFaults(has_wrong_heads=True),
        }
        result = run_command(config, *full_network(sim.addresses), "--rate", "1000")
    assert result.returncode == 1, result.stderr
    summary = json.loads(result.stdout)
    assert list(summary["problems"]) == [f"repos https://{endless}"]
    assert (summary["lists"], summary["lists_read"]) == (4, 3)
    listed = {did for did, account in network.list_accounts(None) if account.listing is not None}
    found = requests(config)
    assert len(found) == len({request.did for request in found})
    # Each account is asked for, and besides them only what a host has made up.
    assert listed <= {request.did for request in found}
    assert len(found) == len(listed) + 3
    hosts = {request.did: request.host for request in found}
    for name in names:
        for did_there, account in network.list_accounts(name):
            if account.listing is not None:
                assert hosts[Did(did_there)] == f"https://{name}"
