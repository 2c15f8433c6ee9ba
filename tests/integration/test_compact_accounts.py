"""Deletions on a real broker: hidden at once, gone when somebody confirms, and never forgotten.

Nobody answers but the test, and the clock that matters is the one in the events.
"""

from pathlib import Path

import pytest
from support.accounts import (
    ALICE,
    BOB,
    PARTITIONS,
    RECORDS,
    Outside,
    causes,
    deletion,
    history,
    repo,
)
from support.compact import Running, lose
from support.events import account
from support.latest import read_latest, read_stores

from pipelines.compact.accounts import DEFAULT_PURGE_AFTER_S, Policy
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan

pytestmark = pytest.mark.broker

WAITING = Policy()


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


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
