"""Everything is replayed into a new generation of topics: what comes of it is the same."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.kafka import create_topic, is_caught_up, read_decided, wait_until
from support.latest import read_latest
from support.pipeline import Pipeline, running_pipeline
from support.reduced import reduce_recording, write_messages
from support.replay import run_replay

from pipelines.compact.accounts import DEFAULT_PURGE_AFTER_S
from pipelines.config import KafkaConfig
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer

pytestmark = pytest.mark.broker

PARTITIONS = 1
# Where something stands now, when a stage came across it, and whether it is done with it.
_OF_THE_RUN = ("frame_offset", "events_offset", "desynchronized_us", "requested_us", "purging")


@pytest.fixture
def first(kafka: str, topic_prefix: str, capture_folder: Path) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    reduced = reduce_recording(capture_folder, config, PARTITIONS)
    messages = [*reduced.frames, *reduced.outputs]
    for topic in sorted({message.topic for message in messages}):
        create_topic(config, topic.removeprefix(f"{topic_prefix}."), PARTITIONS)
    write_messages(config, messages)
    return config


@pytest.fixture
def second(
    kafka: str, topic_prefix: str, capture_folder: Path, tmp_path: Path
) -> Iterator[Pipeline]:
    config = KafkaConfig(kafka, f"{topic_prefix}-second")
    with (
        SimServer(load_network(capture_folder)) as sim,
        running_pipeline(config, sim.addresses, tmp_path, PARTITIONS) as pipeline,
    ):
        yield pipeline


def test_replaying_everything_into_empty_topics_gives_the_same_state(
    first: KafkaConfig, second: Pipeline
) -> None:
    config = second.kafka
    frames = config.topic("frames")
    assert run_replay(first, "frames", "--to-topic", frames).return_value == 0
    # Else there may be nothing to work off yet for who looks at what is readable.
    assert read_decided(config, frames)
    second.start_worker("0")
    second.start_compact(purge_after_s=DEFAULT_PURGE_AFTER_S)
    for stage, topic in (("explode", frames), ("compact", config.topic("events"))):
        wait_until(partial(is_caught_up, config, stage, topic), f"{stage} to work off its input")
    expected, found = read_latest(first), read_latest(config)
    assert len(expected.repos) > 3
    assert expected.records
    assert {did: _state(repo) for did, repo in found.repos.items()} == {
        did: _state(repo) for did, repo in expected.repos.items()
    }
    # The stage has deleted what it was about to.
    for did, repo in expected.repos.items():
        if repo["purging"]:
            del expected.records[did]
    assert _records(found.records) == _records(expected.records)


def _state(value: dict[str, Any]) -> dict[str, Any]:
    state = {name: member for name, member in value.items() if name not in _OF_THE_RUN}
    if "waiting" in state:
        state["waiting"] = [_state(commit) for commit in state["waiting"]]
    return state


def _records(of_repos: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {
        did: {path: _state(value) for path, value in records.items()}
        for did, records in of_repos.items()
    }
