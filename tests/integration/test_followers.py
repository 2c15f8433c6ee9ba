"""The counter of followers in a real PostgreSQL: exact after any batch, and after kills."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from support.admissions import PACKAGED
from support.events import HOST, rev
from support.frames import NOW_US
from support.index_kills import DEADLINE_S
from support.kafka import wait_until
from support.postgres import find_programs, running_postgres
from support.reduced import write_messages

from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.frames import Action
from pipelines.atproto.syntax import Did, parse_path
from pipelines.compact.events import Body, EventOp, Source
from pipelines.compact.outputs import record_messages, repo_message
from pipelines.compact.service import output_topics
from pipelines.compact.state import RepoState, Sync
from pipelines.config import KafkaConfig
from pipelines.consume import AccountChanged, Batch, Change, Delete, Put
from pipelines.consume import Sync as ReaderSync
from pipelines.consume.examples.followers import COLLECTION, FollowerIndex
from pipelines.errors import ConfigError
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.topics import registry

PARTITIONS = 2
DIDS = [f"did:plc:{name * 24}" for name in "abcdef"]
SUBJECTS = DIDS[:4]
KILLS_COUNT = 6


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL's server is not on this machine (Debian: postgresql)")
    with running_postgres(programs) as conninfo:
        yield conninfo


@pytest.fixture
def database(server: str, request: pytest.FixtureRequest) -> str:
    """How to connect to a database that is empty."""
    return _create(server, f"t{abs(hash(request.node.nodeid))}")


def _create(server: str, name: str) -> str:
    with closing(psycopg.connect(server, autocommit=True)) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server} dbname={name}"


def counts(database: str) -> dict[str, int]:
    with closing(FollowerIndex(database)) as followers:
        return dict(followers.top(1_000))


class Model:
    """What is true, worked out anew each time."""

    def __init__(self) -> None:
        self.records: dict[str, Put] = {}
        self.accounts: dict[str, AccountChanged] = {}

    def take(self, change: Change) -> None:
        match change:
            case AccountChanged():
                self.accounts[change.did] = change
            case Put() | Delete():
                held = self.records.get(change.uri)
                if change.replaces(None if held is None else held.rev):
                    self.records.pop(change.uri, None)
                    if isinstance(change, Put):
                        self.records[change.uri] = change

    def counts(self) -> dict[str, int]:
        pairs = set()
        for record in self.records.values():
            account = self.accounts.get(record.did)
            subject = (record.record or {}).get("subject")
            if isinstance(subject, str) and (account is None or account.shows(record.rev)):
                pairs.add((record.did, subject))
        return dict(Counter(subject for _, subject in pairs))


class Changes:
    """Changes at random; mostly of growing revisions."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._number = 10

    def some(self) -> list[Change]:
        return [self._one() for _ in range(self._random.randint(0, 6))]

    def _one(self) -> Change:
        choose = self._random.choice
        did, rkey = choose(DIDS), choose("123")
        self._number += 1
        at = rev(self._number - choose([0, 0, 0, 8]))
        uri = f"at://{did}/{COLLECTION}/{rkey}"
        kind = choose(["put"] * 6 + ["delete"] * 3 + ["account"] * 2)
        if kind == "account":
            is_active = choose([True, False])
            deleted_rev = choose([None, None, at])
            return AccountChanged(did, is_active, None, ReaderSync.SYNCHRONIZED, deleted_rev)
        if kind == "delete":
            return Delete(uri, did, COLLECTION, rkey, at, None, is_live=True)
        record = choose(
            [*[{"subject": subject} for subject in SUBJECTS], {}, {"subject": 7}, None]
        )
        return Put(
            *(uri, did, COLLECTION, rkey, at, "cid", None, record, None, None, 0), is_live=True
        )


def batches(changes: Changes, model: Model, count: int) -> Iterator[Batch]:
    before: str | None = None
    for number in range(count):
        found = changes.some()
        for change in found:
            model.take(change)
        yield Batch(tuple(found), {0: str(number)}, {0: before}, is_complete=True, behind_count=0)
        before = str(number)


@pytest.mark.parametrize("seed", range(3))
def test_after_each_batch_the_counts_are_what_is_true(database: str, seed: int) -> None:
    model, seen = Model(), Counter[bool]()
    with closing(FollowerIndex(database)) as followers:
        for batch in batches(Changes(seed), model, 150):
            followers.apply(batch)
            assert dict(followers.top(1_000)) == model.counts()
            seen[max(model.counts().values(), default=0) > 1] += 1
        assert followers.positions() == {0: "149"}
        assert [count for _, count in followers.top(2)] == sorted(
            model.counts().values(), reverse=True
        )[:2]
    assert seen[True] > 10


def test_a_batch_that_fails_leaves_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    first, second, third = batches(Changes(7), model, 3)
    with closing(FollowerIndex(database)) as followers:
        followers.apply(first)
        followers.apply(second)
        before = counts(database)

        def fail(_statement: str, _rows: object) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patched:
            patched.setattr(followers, "_insert", fail)
            with pytest.raises(ZeroDivisionError):
                followers.apply(third)
        with pytest.raises(ConfigError, match="another process"):
            followers.apply(first)
        assert (counts(database), followers.positions()) == (before, {0: "1"})
        followers.apply(third)
    assert counts(database) == model.counts()


class Network:
    """Accounts that follow each other, as compact writes them."""

    def __init__(self, config: KafkaConfig) -> None:
        self.config = config
        self._random = random.Random(3)
        self._topics = output_topics(config, registry(), PACKAGED)
        self._held: dict[tuple[str, str], str] = {}
        self._hidden: set[str] = set()
        self._number = 0

    def write(self, count: int) -> None:
        """Writes so many changes in one transaction."""
        write_messages(self.config, [m for _ in range(count) for m in self._step()])

    def truth(self) -> dict[str, int]:
        shown = {
            (did, subject) for (did, _), subject in self._held.items() if did not in self._hidden
        }
        return dict(Counter(subject for _, subject in shown))

    def _step(self) -> list[OutputMessage]:
        self._number += 1
        did, rkey = self._random.choice(DIDS), str(self._random.randrange(8))
        path = parse_path(f"{COLLECTION}/{rkey}")
        source = Source(HOST, self._number, "2026-11-01T00:00:00Z", NOW_US + self._number, 0, 0)
        number = partition_for(did, PARTITIONS)
        if self._random.random() < 0.1:
            self._hidden ^= {did}
            state = RepoState(
                Did(did), source, sync=Sync.SYNCHRONIZED, upstream_active=did not in self._hidden
            )
            return [repo_message(state, number, self._topics)]
        held = self._held.pop((did, rkey), None)
        prev = None if held is None else encode_cid(cid_of(held.encode()))
        if held is not None and self._random.random() < 0.4:
            op = EventOp(Action.DELETE, *path, None, prev, None)
        else:
            subject = self._random.choice(SUBJECTS)
            self._held[did, rkey] = subject
            action = Action.CREATE if held is None else Action.UPDATE
            cid = encode_cid(cid_of(subject.encode()))
            op = EventOp(action, *path, cid, prev, Body({"subject": subject}, None, None))
        return record_messages(Did(did), rev(self._number), [op], source, number, self._topics)


def start(config: KafkaConfig, database: str, *options: str) -> "subprocess.Popen[bytes]":
    cluster = ["--bootstrap-servers", config.bootstrap_servers]
    prefix = ["--topic-prefix", config.topic_prefix]
    module = "pipelines.consume.examples.followers"
    return subprocess.Popen(
        [sys.executable, "-m", module, "follow", database, *cluster, *prefix, *options],
        stderr=subprocess.PIPE,
    )


def kill_one(config: KafkaConfig, database: str, network: Network, after_s: float) -> None:
    """Starts it where there is something to read, and kills it while more comes."""
    before = positions(database)
    process = start(config, database)
    wait_until(lambda: positions(database) != before, "a batch")
    network.write(100)
    time.sleep(after_s)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def count_once(config: KafkaConfig, database: str) -> dict[str, int]:
    process = start(config, database, "--once")
    _, said = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, said) == (0, b"complete\n")
    return counts(database)


@pytest.mark.broker
def test_counts_are_exact_after_kills_and_the_same_when_they_are_made_anew(
    kafka: str, topic_prefix: str, server: str, database: str
) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    network = Network(config)
    moments = random.Random(5)
    network.write(200)
    for _ in range(KILLS_COUNT):
        kill_one(config, database, network, moments.uniform(0, 0.2))
    assert count_once(config, database) == network.truth() != {}
    assert count_once(config, _create(server, f"anew_{topic_prefix[-6:]}")) == network.truth()


def positions(database: str) -> dict[int, str]:
    with closing(FollowerIndex(database)) as followers:
        return followers.positions()


def test_without_a_database_it_ends_with_a_sentence(tmp_path: object) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pipelines.consume.examples.followers", "top", f"host={tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "connection" in result.stderr
    assert "Traceback" not in result.stderr
