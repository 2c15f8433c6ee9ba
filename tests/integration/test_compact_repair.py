"""Repair on a real broker, with chunks and manifests written by hand.

What stops an applier half-way is a gate in the test, so that nothing depends on how fast it is.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Message, Producer
from support.answers import chunk_values, record_cid, snapshot_of
from support.compact import Running, lose
from support.events import account, commit, create, encode_event, refused, rev
from support.kafka import delete_before, delete_topic, read_committed
from support.latest import Latest, read_latest, read_stores

from pipelines.atproto.syntax import Did
from pipelines.compact import applying, service
from pipelines.compact.events import Event
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.loop import Background
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.repair.chunks import chunk_message
from pipelines.repair.manifests import Snapshot, manifest_message

pytestmark = pytest.mark.broker

PARTITIONS = 2
ALICE, BOB = (
    [
        did
        for number in range(40)
        if partition_for(did := Did(f"did:plc:{chr(97 + number % 26) * 23}{number % 5 + 2}"), 2)
        == 1
    ]
)[:2]
HELD = {f"a.b.c/{n:02}": f"old {n}" for n in range(0, 20, 2)}
# Of ten records held five stay, of which two change; four are new.
WANTED = {
    f"a.b.c/{n:02}": f"new {n}" if n in (4, 8) else f"old {n}"
    for n in (0, 4, 5, 8, 9, 10, 11, 14, 21)
}
CREATED, UPDATED, DELETED = 4, 2, 5


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


class Gate:
    """Lets a number of slices of background work pass, and then none until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._work = service.CompactStage.background
        self.left = 0
        self._is_open = threading.Event()
        gate = self

        def background(
            stage: service.CompactStage, partitions: Collection[int]
        ) -> Background | None:
            return gate.background(stage, partitions)

        monkeypatch.setattr(service.CompactStage, "background", background)

    def open(self) -> None:
        self._is_open.set()

    def background(
        self, stage: service.CompactStage, partitions: Collection[int]
    ) -> Background | None:
        if not self._is_open.is_set() and not self.left:
            return None
        work = self._work(stage, partitions)
        if work is not None and work.outputs:
            self.left -= 1
        return work


class Outside:
    """Everything around compact: an upstream, and the stage that fetches repositories."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._producer = Producer(
            {
                "bootstrap.servers": config.bootstrap_servers,
                "transactional.id": f"{config.topic_prefix}-outside",
                "log_level": 0,
            }
        )
        self._producer.init_transactions(20)

    def send(self, *events: Event) -> None:
        now_us = time.time_ns() // 1000
        self._transact(
            [
                OutputMessage(
                    self._config.topic("events"),
                    partition_for(event.did, PARTITIONS),
                    event.did.encode(),
                    encode_event(replace(event, source=event.source._replace(received_us=now_us))),
                    [],
                    now_us // 1000,
                )
                for event in events
            ]
        )

    def answer(
        self,
        did: Did,
        number: int,
        texts: Mapping[str, str],
        harm: Callable[[list[bytes]], list[bytes]] = list,
        **changes: Any,
    ) -> Snapshot:
        """Writes chunks of two records, each in a transaction of its own, and the manifest."""
        values = chunk_values(number, texts, did)
        now_us = time.time_ns() // 1000
        partition = partition_for(did, PARTITIONS)
        topic = self._config.topic("chunks")
        offsets = [
            self._transact([chunk_message(did, rev(number), value, now_us, partition, topic)])[0]
            for value in harm(values)
        ]
        snapshot = snapshot_of(
            number,
            len(texts),
            values,
            did=did,
            first_chunk_offset=min(offsets, default=0),
            end_chunk_offset=max(offsets, default=-1) + 1,
            fetched_us=now_us,
            **changes,
        )
        self._transact([manifest_message(snapshot, partition, self._config.topic("snapshots"))])
        return snapshot

    def _transact(self, messages: list[OutputMessage]) -> list[int]:
        offsets: list[int] = []

        def delivered(error: object, message: Message) -> None:
            assert error is None
            offset = message.offset()
            assert offset is not None
            offsets.append(offset)

        self._producer.begin_transaction()
        for message in messages:
            self._producer.produce(
                message.topic,
                message.value,
                message.key,
                message.partition,
                on_delivery=delivered,
                timestamp=message.timestamp_ms,
                headers=list(message.headers),
            )
        self._producer.commit_transaction(20)
        return offsets


@pytest.fixture
def outside(config: KafkaConfig) -> Outside:
    return Outside(config)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setattr(applying, "SLICE_OPS_COUNT", 2)
    return Gate(monkeypatch)


def begin(texts: Mapping[str, str], did: Did) -> Event:
    """Returns the first commit of a repository, with number 1."""
    return commit(1, None, *(create(p, record_cid(text)) for p, text in texts.items()), did=did)


def cids(texts: Mapping[str, str]) -> dict[str, str]:
    return {path: record_cid(text) for path, text in texts.items()}


def repo(config: KafkaConfig, did: Did) -> dict[str, Any]:
    return read_latest(config).repos.get(did, {"sync": None, "rev": None})


def is_synchronized(config: KafkaConfig, did: Did, number: int) -> bool:
    state = repo(config, did)
    return (state["sync"], state["rev"]) == ("synchronized", rev(number))


def requests(config: KafkaConfig) -> list[tuple[str, str | None, str]]:
    """Returns account, reason and least revision of every request."""
    values = [
        orjson.loads(message.value or b"")
        for message in read_committed(config, config.topic("resyncs"))
    ]
    return [(value["did"], value["reason"], value["min_rev"]) for value in values]


def changes_of(config: KafkaConfig, did: Did) -> list[tuple[str, str]]:
    """Returns operation and liveness of every message of a repository's records, in order."""
    found = []
    for message in read_committed(config, config.topic("latest.other")):
        headers = dict(message.headers)
        if headers["did"] == did.encode():
            found.append((headers["operation"].decode(), headers["live"].decode()))
    return found


def check_repaired(latest: Latest, folder: Path, texts: Mapping[str, str]) -> None:
    assert latest.paths(ALICE) == cids(texts)
    assert read_stores(folder, PARTITIONS)[ALICE].paths == cids(texts)


def test_a_broken_repository_is_repaired_between_others_events(
    config: KafkaConfig, outside: Outside, gate: Gate, tmp_path: Path
) -> None:
    folder = tmp_path / "stores"
    with Running(config, folder) as compact:
        outside.send(begin(HELD, ALICE), refused_of(ALICE, 4))
        compact.wait_until(
            lambda: requests(config) == [(ALICE, "commit.path_twice", rev(4))], "the request"
        )
        gate.left = 2
        outside.answer(ALICE, 5, WANTED)
        compact.wait_until(lambda: gate.left == 0, "the first slices")
        # Meanwhile the repository goes on, and another one in its partition.
        outside.send(
            commit(6, 5, create("a.b.d/6", record_cid("six")), did=ALICE),
            commit(7, 6, create("a.b.d/7", record_cid("seven")), did=ALICE),
            begin({"a.b.c/1": "Bob's"}, BOB),
        )
        compact.wait_until(lambda: is_synchronized(config, BOB, 1), "the other repository")
        state = repo(config, ALICE)
        assert (state["sync"], state["applying"]["rev"]) == ("applying", rev(5))
        assert state["applying"]["partial"]
        assert [waiting["rev"] for waiting in state["waiting"]] == [rev(4), rev(6), rev(7)]
        gate.open()
        compact.wait_until(lambda: is_synchronized(config, ALICE, 7), "the repair")
    latest = read_latest(config)
    check_repaired(latest, folder, WANTED | {"a.b.d/6": "six", "a.b.d/7": "seven"})
    changes = changes_of(config, ALICE)
    assert changes[: len(HELD)] == [("create", "true")] * len(HELD)
    repaired = changes[len(HELD) : -2]
    assert {live for _, live in repaired} == {"false"}
    counts = [sum(action == wanted for action, _ in repaired) for wanted in ("create", "update")]
    assert [*counts, len(repaired)] == [CREATED, UPDATED, CREATED + UPDATED + DELETED]
    assert changes[-2:] == [("create", "true")] * 2
    value = latest.records[ALICE]["a.b.c/04"]
    assert (value["seq"], value["snapshot_offset"], value["host"]) == (None, 0, "pds.example")
    assert len(requests(config)) == 1


def refused_of(did: Did, number: int) -> Event:
    return replace(refused(number), did=did)


def test_a_new_member_without_a_store_goes_on_in_the_middle(
    config: KafkaConfig, outside: Outside, gate: Gate, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with Running(config, first, "first") as compact:
        # Nobody ever heard of this repository, and no event came in its partition.
        gate.left = 3
        outside.answer(ALICE, 5, WANTED)
        compact.wait_until(lambda: gate.left == 0, "the first slices")
        # What is committed can be read only a moment later.
        compact.wait_until(
            lambda: (repo(config, ALICE).get("applying") or {}).get("next_chunk_index") == 3,
            "the progress",
        )
    lose(first)
    gate.open()
    with Running(config, second, "second") as compact:
        compact.wait_until(lambda: is_synchronized(config, ALICE, 5), "the repair")
    check_repaired(read_latest(config), second, WANTED)
    # Nothing was written twice.
    assert changes_of(config, ALICE) == [("create", "false")] * len(WANTED)


def test_damaged_chunks_are_asked_for_again_and_older_answers_are_nothing(
    config: KafkaConfig, outside: Outside, gate: Gate, tmp_path: Path
) -> None:
    gate.open()
    folder = tmp_path / "stores"
    with Running(config, folder) as compact:
        outside.send(begin(HELD, ALICE), refused_of(ALICE, 4))
        # Events and answers have no common order.
        asked = [(ALICE, "commit.path_twice", rev(4))]
        compact.wait_until(lambda: requests(config) == asked, "the request")
        outside.answer(ALICE, 5, WANTED, harm=lambda values: [*values[:2], *values[3:]])
        asked.append((ALICE, "commit.path_twice", rev(5)))
        compact.wait_until(lambda: requests(config) == asked, "the new request")
        assert read_latest(config).paths(ALICE) == cids(HELD)
        outside.answer(ALICE, 6, WANTED)
        compact.wait_until(lambda: is_synchronized(config, ALICE, 6), "the repair")
        before = repo(config, ALICE)
        outside.answer(ALICE, 5, HELD)
        # The answers of a partition are judged in order.
        outside.answer(BOB, 1, {"a.b.c/1": "Bob's"})
        compact.wait_until(lambda: is_synchronized(config, BOB, 1), "the other repository")
        assert repo(config, ALICE) == before
    check_repaired(read_latest(config), folder, WANTED)


@pytest.mark.parametrize("way", ["retention", "made anew"])
def test_chunks_that_are_gone_are_asked_for_again_while_others_go_on(
    config: KafkaConfig,
    outside: Outside,
    gate: Gate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    folder = tmp_path / "stores"
    topic = config.topic("chunks")
    with Running(config, folder) as compact:
        outside.send(begin(HELD, ALICE), refused_of(ALICE, 4))
        asked = [(ALICE, "commit.path_twice", rev(4))]
        compact.wait_until(lambda: requests(config) == asked, "the request")
        answer = outside.answer(ALICE, 5, WANTED)
        compact.wait_until(lambda: repo(config, ALICE)["sync"] == "applying", "its turn")
        if way == "retention":
            delete_before(config, topic, {1: answer.end_chunk_offset})
            gate.open()
        else:
            monkeypatch.setattr(applying, "PATIENCE_MS", 0)
            delete_topic(config, topic)
            gate.open()
            outside.send(begin({"a.b.c/1": "Bob's"}, BOB))
            compact.wait_until(lambda: is_synchronized(config, BOB, 1), "the other repository")
            apply(plan(config, PARTITIONS))
        asked.append((ALICE, "commit.path_twice", rev(5)))
        compact.wait_until(lambda: requests(config) == asked, "the new request")
        outside.answer(ALICE, 6, WANTED)
        compact.wait_until(lambda: is_synchronized(config, ALICE, 6), "the repair")
    check_repaired(read_latest(config), folder, WANTED)


def test_an_account_that_is_deleted_half_way_leaves_nothing(
    config: KafkaConfig, outside: Outside, gate: Gate, tmp_path: Path
) -> None:
    folder = tmp_path / "stores"
    with Running(config, folder) as compact:
        gate.left = 2
        outside.answer(ALICE, 5, WANTED)
        compact.wait_until(lambda: gate.left == 0, "the first slices")
        outside.send(account(9, active=False, status="deleted", did=ALICE))
        compact.wait_until(
            lambda: repo(config, ALICE).get("status") == "deleted", "the account's end"
        )
        gate.open()
        compact.wait_until(lambda: repo(config, ALICE)["purging"] is False, "the last tombstone")
    latest = read_latest(config)
    assert latest.records == {}
    assert latest.tombstones_count == 4
    assert (latest.repos[ALICE]["sync"], latest.repos[ALICE]["applying"]) == ("unknown", None)
    assert read_stores(folder, PARTITIONS)[ALICE].paths == {}
