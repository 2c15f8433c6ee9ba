"""The index of posts on a real broker: exact after kills, and told when it cannot go on."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.index_kills import (
    DEADLINE_S,
    Moment,
    Writer,
    contents,
    kill_again_and_again,
    positions,
    run_once,
    start,
)
from support.indexes import POST, Network
from support.kafka import add_partitions, create_topic, delete_topic, read_decided

from pipelines.config import KafkaConfig
from pipelines.consume import Batch, Index, Position, RebuildRequiredError
from pipelines.consume import index as index_module
from pipelines.consume.examples.posts import PostIndex
from pipelines.errors import ConfigError
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.partition import partition_for

pytestmark = pytest.mark.broker

PARTITIONS = 2
STEPS_COUNT = 100


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


def test_an_index_that_is_killed_again_and_again_is_what_is_true(
    config: KafkaConfig, tmp_path: Path
) -> None:
    moments = [moment for moment in Moment if moment is not Moment.ANY]
    killed = kill_again_and_again(config, PARTITIONS, tmp_path, moments, seed=6)
    assert killed.shown
    assert contents(tmp_path / "posts.db") == killed.shown
    assert contents(tmp_path / "fresh.db") == killed.shown


class Following:
    """An index that a test follows into, one batch at a time."""

    def __init__(self, config: KafkaConfig, path: Path) -> None:
        self._deadline_s = time.monotonic() + DEADLINE_S
        self.index = PostIndex(path)
        reading = Index(config, [POST], self.index.positions(), should_stop=self._is_late)
        self._batches = reading.batches()

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline_s

    def until(self, condition: Callable[[Batch], bool]) -> Batch:
        """Takes batches over up to one that fulfils a condition."""
        for batch in self._batches:
            self.index.apply(batch)
            if condition(batch):
                return batch
        raise AssertionError(f"it has not come within {DEADLINE_S} s")

    def close(self) -> None:
        self._batches.close()
        self.index.close()


def is_complete(batch: Batch) -> bool:
    return batch.is_complete and batch.behind_count == 0


def test_a_collection_that_gets_a_topic_of_its_own_is_followed_there(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    before, after = (KafkaConfig(kafka, topic_prefix, admitted=table) for table in ((), (POST,)))
    apply(plan(before, PARTITIONS))
    network = Network(before, PARTITIONS, 2)
    writer = Writer(before, network, 2)
    writer.write(STEPS_COUNT)
    path = tmp_path / "posts.db"
    following = Following(before, path)
    try:
        following.until(is_complete)
        assert contents(path) == network.shown()
        apply(plan(after))
        network.change_table()
        writer.write(STEPS_COUNT)
        for messages in network.finish():
            writer.commit(messages)
        following.until(lambda _: contents(path) == network.shown())
        positions = [Position.parse(text) for text in following.index.positions().values()]
        read = {topic for position in positions for topic in position.next_offsets}
        assert before.topic(f"latest.{POST}") in read
    finally:
        following.close()
    # So does one that was not there when it happened.
    fresh = Following(after, tmp_path / "fresh.db")
    try:
        fresh.until(is_complete)
    finally:
        fresh.close()
    assert contents(tmp_path / "fresh.db") == network.shown()


def test_an_index_that_cannot_go_on_says_why_and_is_left_as_it_is(
    config: KafkaConfig, tmp_path: Path
) -> None:
    network = Network(config, PARTITIONS, 3, admitted=[POST])
    Writer(config, network, 3).write(STEPS_COUNT)
    path = tmp_path / "posts.db"
    run_once(config, path)
    stored = positions(path)

    def refuse(**options: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            next(
                Index(config, **({"collections": [POST], "positions": stored} | options)).batches()
            )
        assert isinstance(caught.value, RebuildRequiredError) is ("partitions" not in options)
        return str(caught.value)

    week_ms = 7 * 86_400_000
    assert "delete.retention.ms" in refuse(clock_ms=lambda: time.time_ns() // 10**6 + week_ms)
    assert "all collections is wanted: build the index anew" in refuse(collections=None)
    assert "is not a position of version 1" in refuse(positions={1: "{}"})
    assert "is of another one" in refuse(positions={1: stored[0]})
    assert "there is no partition 2" in refuse(partitions=[0, 2])
    delete_topic(config, config.topic("repos"))
    create_topic(config, "repos", PARTITIONS)
    process = start(config, path)
    _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert f"{config.topic('repos')} was deleted and made anew: build the index anew" in (
        said.decode()
    )
    assert positions(path) == stored


def test_an_index_that_follows_notices_partitions_that_are_added(
    config: KafkaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "LOOK_INTERVAL_S", 0.0)
    following = Following(config, tmp_path / "posts.db")
    try:
        following.until(is_complete)
        following.until(is_complete)
        add_partitions(config, PARTITIONS + 1)
        with pytest.raises(RebuildRequiredError, match="2 partitions, and they have 3: build"):
            following.until(lambda _: False)
    finally:
        following.close()


def test_two_processes_share_the_partitions(config: KafkaConfig) -> None:
    network = Network(config, PARTITIONS, 4, admitted=[POST])
    Writer(config, network, 4).write(STEPS_COUNT)
    found: list[set[str]] = []
    for number in range(PARTITIONS):
        dids: set[str] = set()
        for batch in Index(config, None, {}, partitions=[number]).batches():
            assert set(batch.positions) <= {number}
            dids |= {change.did for change in batch}
            if is_complete(batch):
                break
        assert {partition_for(did, PARTITIONS) for did in dids} <= {number}
        found.append(dids)
    written = read_decided(config, config.topic("repos"))
    assert all(found)
    assert set.union(*found) == {message.key.decode() for message in written if message.key}
