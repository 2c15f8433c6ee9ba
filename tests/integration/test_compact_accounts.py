"""Deletions on a real broker: hidden at once, gone when somebody confirms, and never forgotten.

Nobody answers but the test, and the clock that matters is the one in the events.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer
from support.answers import absent, record_cid
from support.compact import Running, lose
from support.events import account, commit, create, encode_event
from support.kafka import read_committed
from support.latest import read_latest, read_stores

from pipelines.atproto.syntax import Did
from pipelines.compact.accounts import DEFAULT_PURGE_AFTER_S, Policy
from pipelines.compact.events import Event
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.repair.manifests import RepoError, manifest_message

pytestmark = pytest.mark.broker

PARTITIONS = 2
ALICE, BOB = Did("did:plc:alice234567alice234567aa"), Did("did:plc:bob2345672bob2345672bob2")
RECORDS = {f"a.b.c/{n}": record_cid(str(n)) for n in range(3)}
WAITING = Policy()


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


class Outside:
    """An upstream, and the stage that asks servers."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._producer = Producer({"bootstrap.servers": config.bootstrap_servers})

    def send(self, *events: Event, age_s: float = 0) -> None:
        """Writes events that were received some time ago."""
        for event in events:
            received_us = time.time_ns() // 1000 - int(age_s * 1_000_000)
            source = event.source._replace(received_us=received_us)
            self._write(
                OutputMessage(
                    self._config.topic("events"),
                    partition_for(event.did, PARTITIONS),
                    event.did.encode(),
                    encode_event(replace(event, source=source)),
                    [],
                    time.time_ns() // 1_000_000,
                )
            )

    def say_not_found(self, did: Did) -> None:
        """Answers for a server that was asked now and knows no such repository."""
        answer = replace(absent(RepoError.NOT_FOUND, None, time.time_ns() // 1000), did=did)
        topic = self._config.topic("snapshots")
        self._write(manifest_message(answer, partition_for(did, PARTITIONS), topic))

    def _write(self, message: OutputMessage) -> None:
        self._producer.produce(
            message.topic,
            message.value,
            message.key,
            message.partition,
            timestamp=message.timestamp_ms,
        )
        assert self._producer.flush(20) == 0


def history(did: Did) -> list[Event]:
    ops = [create(path, cid) for path, cid in RECORDS.items()]
    return [commit(1, None, *ops, did=did)]


def deletion(did: Did) -> Event:
    return account(2, active=False, status="deleted", did=did)


def repo(config: KafkaConfig, did: Did) -> dict[str, Any]:
    return read_latest(config).repos.get(did, {})


def causes(config: KafkaConfig, did: Did) -> list[str]:
    """Returns why a repository was asked for."""
    requests = [
        orjson.loads(m.value or b"") for m in read_committed(config, config.topic("resyncs"))
    ]
    return [request["cause"] for request in requests if request["did"] == did]


def test_a_deletion_waits_through_the_loss_of_the_store_until_the_server_confirms(
    config: KafkaConfig, tmp_path: Path
) -> None:
    folder, outside = tmp_path / "stores", Outside(config)
    outside.send(*history(ALICE), deletion(ALICE))
    with Running(config, folder, policy=WAITING) as compact:
        compact.wait_until(lambda: causes(config, ALICE) == ["deletion"], "the request")
        compact.wait_until(lambda: repo(config, ALICE).get("status") == "deleted", "the status")
    waiting = read_latest(config)
    assert waiting.paths(ALICE) == RECORDS
    assert waiting.repos[ALICE]["active"] is False
    assert waiting.repos[ALICE]["deletion_us"] == waiting.repos[ALICE]["account_received_us"]
    lose(folder)
    with Running(config, folder, policy=WAITING) as compact:
        outside.say_not_found(ALICE)
        compact.wait_until(
            lambda: (
                repo(config, ALICE)["sync"] == "unknown" and not repo(config, ALICE)["purging"]
            ),
            "the last tombstone",
        )
    latest = read_latest(config)
    assert (latest.records, latest.tombstones_count) == ({}, len(RECORDS))
    assert (latest.repos[ALICE]["status"], latest.repos[ALICE]["deletion_us"]) == ("deleted", None)
    assert read_stores(folder, PARTITIONS)[ALICE].paths == {}
    assert causes(config, ALICE) == ["deletion"]


def test_without_an_answer_it_goes_when_the_time_is_over_also_for_a_new_owner(
    config: KafkaConfig, tmp_path: Path
) -> None:
    outside = Outside(config)
    outside.send(*history(ALICE), *history(BOB))
    # Of one the day is over tomorrow, of the other it is over now.
    outside.send(deletion(ALICE), age_s=DEFAULT_PURGE_AFTER_S + 60)
    outside.send(deletion(BOB))
    with Running(config, tmp_path / "first", policy=Policy(purge_after_s=1e9)) as compact:
        compact.wait_until(lambda: causes(config, ALICE) == ["deletion"], "Alice's request")
        compact.wait_until(lambda: causes(config, BOB) == ["deletion"], "Bob's request")
    assert read_latest(config).all_paths() == {ALICE: RECORDS, BOB: RECORDS}
    with Running(config, tmp_path / "second", "1", policy=WAITING) as compact:
        compact.wait_until(
            lambda: (
                repo(config, ALICE)["sync"] == "unknown" and not repo(config, ALICE)["purging"]
            ),
            "the last tombstone",
        )
        # Bob comes back in time.
        outside.send(account(3, did=BOB))
        returned = ["deletion", "reactivation"]
        compact.wait_until(lambda: causes(config, BOB) == returned, "Bob's request")
        compact.wait_until(lambda: repo(config, BOB)["active"], "Bob's return")
    latest = read_latest(config)
    assert latest.all_paths() == {BOB: RECORDS}
    assert latest.repos[BOB]["deletion_us"] is None
