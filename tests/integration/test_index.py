"""The index of posts on a real broker: exact after kills, and told when it cannot go on."""

from pathlib import Path
from random import Random

import pytest
from support.index_kills import Writer, kill_one, run_once
from support.indexes import COMMON_WORD, POST, Network

from pipelines.config import KafkaConfig
from pipelines.consume.examples.posts import PostIndex
from pipelines.kafka.admin import apply, plan

pytestmark = pytest.mark.broker

PARTITIONS = 2
KILLS_COUNT = 6
STEPS_COUNT = 150


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


def contents(path: Path) -> dict[str, str]:
    index = PostIndex(path)
    try:
        return {hit.uri: hit.text for hit in index.search(COMMON_WORD, 10_000)}
    finally:
        index.close()


def test_an_index_that_is_killed_again_and_again_is_what_is_true(
    config: KafkaConfig, tmp_path: Path
) -> None:
    network = Network(config, PARTITIONS, 1, admitted=[POST])
    writer = Writer(config, network, 1)
    random = Random(1)
    path = tmp_path / "posts.db"
    for _ in range(KILLS_COUNT):
        writer.write(STEPS_COUNT)
        kill_one(config, path, random)
    for messages in network.finish():
        writer.commit(messages)
    assert f"complete: {len(network.posts()):,} posts" in run_once(config, path)
    assert network.shown()
    assert contents(path) == network.shown()
    fresh = tmp_path / "fresh.db"
    assert f"complete: {len(network.posts()):,} posts" in run_once(config, fresh)
    assert contents(fresh) == network.shown()
