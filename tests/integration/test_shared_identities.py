"""What one worker learns of an identity, and what it hears, counts for the next one."""

import time
from pathlib import Path

import pytest
from support import wire
from support.frames import publish_frames
from support.identities import FakeResolver
from support.kafka import read_committed
from support.repo import DID, OTHER_SIGNER, SIGNER, Repo, Signer, record
from support.workers import Directory, Worker, wait_for_positions

from pipelines.config import KafkaConfig
from pipelines.identity.entries import parse_entry
from pipelines.identity.plc import KeyChange
from pipelines.kafka.admin import apply, plan

pytestmark = pytest.mark.broker

PARTITIONS = 2
FORGED_COUNT = 50


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


@pytest.fixture
def resolver() -> FakeResolver:
    resolver = FakeResolver()
    resolver.keys[DID] = SIGNER.key
    return resolver


@pytest.fixture
def directory(resolver: FakeResolver) -> Directory:
    return Directory(resolver)


class Account:
    """Makes the frames of one account, numbered."""

    def __init__(self) -> None:
        self.repo = Repo()
        self.seq = 0

    def commit(self, signer: Signer = SIGNER) -> bytes:
        self.seq += 1
        self.repo.signer = signer
        path = f"com.example.note/{self.seq:04}"
        return self.repo.apply({path: record("a note")}).frame(seq=self.seq)

    def announcement(self) -> bytes:
        self.seq += 1
        fields = {"seq": self.seq, "did": DID, "time": wire.START_TIME}
        return wire.frame("#identity", fields)


def work_off(config: KafkaConfig, *frames: bytes) -> None:
    """Lets the running worker do frames that are received now."""
    publish_frames(config, frames, time.time_ns() // 1_000)
    wait_for_positions(config)


def kinds(config: KafkaConfig) -> list[str]:
    events = read_committed(config, config.topic("events"))
    return [dict(event.headers)["kind"].decode() for event in events]


def test_an_announcement_that_one_worker_heard_counts_for_its_heir(
    config: KafkaConfig, directory: Directory, tmp_path: Path
) -> None:
    """Spec: E-13."""
    account = Account()
    with Worker(config, directory.client, tmp_path, slot="0"):
        work_off(config, account.commit(), account.commit())
        assert directory.asked == {DID: 1}
        work_off(config, account.announcement())
        assert directory.asked == {DID: 1}
    with Worker(config, directory.client, tmp_path, slot="1"):
        work_off(config, account.commit())
        assert directory.asked == {DID: 2}
    with Worker(config, directory.client, tmp_path, slot="2"):
        work_off(config, account.commit())
        assert directory.asked == {DID: 2}
    assert kinds(config) == ["commit", "commit", "identity", "commit", "commit"]
    entries = read_committed(config, config.topic("identities"))
    assert [parse_entry(e.value or b"").is_stale for e in entries] == [False, True, False]


def test_a_key_that_changed_without_a_word_is_found_by_one_refresh_for_all(
    config: KafkaConfig, resolver: FakeResolver, directory: Directory, tmp_path: Path
) -> None:
    """Spec: E-14."""
    account = Account()
    with Worker(config, directory.client, tmp_path, slot="0"):
        work_off(config, account.commit())
        resolver.keys[DID] = OTHER_SIGNER.key
        work_off(config, *(account.commit(OTHER_SIGNER) for _ in range(3)))
        assert (resolver.fetched[DID], resolver.forced[DID]) == (2, 1)
    with Worker(config, directory.client, tmp_path, slot="1"):
        work_off(config, account.commit(OTHER_SIGNER))
        assert (resolver.fetched[DID], resolver.forced[DID]) == (2, 1)
    assert kinds(config) == ["commit"] * 5
    assert resolver.logs_fetched[DID] == 0


def test_signatures_that_fit_no_key_cost_one_refresh(
    config: KafkaConfig, resolver: FakeResolver, directory: Directory, tmp_path: Path
) -> None:
    """Spec: E-14."""
    account, forger = Account(), Account()
    resolver.logs[DID] = (KeyChange(0, SIGNER.key),)
    forged = [forger.commit(OTHER_SIGNER) for _ in range(FORGED_COUNT)]
    with Worker(config, directory.client, tmp_path):
        work_off(config, account.commit(), *forged, account.commit())
    assert (resolver.fetched[DID], resolver.forced[DID], resolver.logs_fetched[DID]) == (2, 1, 1)
    assert kinds(config) == ["commit", "commit"]
    refused = read_committed(config, config.topic("quarantine"))
    assert [message.value for message in refused] == forged
    assert {dict(message.headers)["q.reason"] for message in refused} == {b"signature.invalid"}
