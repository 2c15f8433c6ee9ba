"""Upstreams that mean no good, and a bridge that runs as a process of its own.

Whatever they send, it stays up, takes no more memory than ARCHITECTURE.md says, and everything
that is valid arrives, once and in order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.bridge import (
    BRIDGE_BYTES,
    assert_holds_exactly,
    create_topics,
    last_seq_in,
)
from support.hostile import Habits, HostileUpstream, event, sized_event
from support.kafka import wait_until
from support.memory import peak_bytes
from support.pipeline import Stage

from pipelines.atproto.frames import MAX_FRAME_BYTES
from pipelines.config import KafkaConfig

pytestmark = pytest.mark.broker

SEED = 20261125
EVENTS_COUNT = 300
TINY_COUNT = 20_000
LOG_BYTES = 100_000
# More than queue, batch and socket hold together.
LARGE_COUNT = 16


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    create_topics(config)
    return config


def habits(count: int = EVENTS_COUNT) -> Habits:
    return Habits([event(seq) for seq in range(1, count + 1)], SEED)


@contextmanager
def bridge(config: KafkaConfig, folder: Path, *upstreams: HostileUpstream) -> Iterator[Stage]:
    """A bridge process; in the end it must still run, be small, and stop when it is asked to."""
    relays = [option for upstream in upstreams for option in ("--relay", upstream.relay)]
    cluster = ["--bootstrap-servers", config.bootstrap_servers]
    prefix = ["--topic-prefix", config.topic_prefix]
    arguments = ["bridge", *relays, "--cursor", "oldest", *cluster, *prefix]
    stage = Stage(arguments, folder / "bridge.log")
    try:
        yield stage
        peak = peak_bytes(stage.process.pid)
        assert stage.stop() == 0, stage.log()
    finally:
        if stage.is_running:
            stage.kill()
    assert peak <= BRIDGE_BYTES


def wait_for_end(config: KafkaConfig, stage: Stage, seq: int) -> None:
    wait_until(
        lambda: not stage.is_running or last_seq_in(config) == seq, f"event {seq}", timeout_s=60
    )
    assert stage.is_running, stage.log()


@pytest.mark.parametrize("name", ["garbage", "jumping", "talkative"])
def test_what_is_valid_among_what_is_not_arrives(
    config: KafkaConfig, tmp_path: Path, name: str
) -> None:
    sent = habits()
    with (
        HostileUpstream(getattr(sent, name)) as upstream,
        bridge(config, tmp_path, upstream) as stage,
    ):
        wait_for_end(config, stage, EVENTS_COUNT)
    assert_holds_exactly(config, sent.events)
    assert upstream.cursors == [0]  # nothing of it was worth a new connection
    assert len(stage.log()) < LOG_BYTES


def test_what_breaks_off_in_the_middle_goes_on_there(config: KafkaConfig, tmp_path: Path) -> None:
    sent = habits()
    with (
        HostileUpstream(sent.broken, sent.broken, sent.honest) as upstream,
        bridge(config, tmp_path, upstream) as stage,
    ):
        wait_for_end(config, stage, EVENTS_COUNT)
    assert_holds_exactly(config, sent.events)
    assert len(upstream.cursors) == 3


def test_tiny_events_without_pause_arrive(config: KafkaConfig, tmp_path: Path) -> None:
    sent = habits(TINY_COUNT)
    with (
        HostileUpstream(sent.honest) as upstream,
        bridge(config, tmp_path, upstream) as stage,
    ):
        wait_for_end(config, stage, TINY_COUNT)
    assert_holds_exactly(config, sent.events)


def test_the_largest_events_back_to_back_arrive(config: KafkaConfig, tmp_path: Path) -> None:
    sent = Habits([sized_event(seq, MAX_FRAME_BYTES) for seq in range(1, LARGE_COUNT + 1)], SEED)
    assert {len(frame) for frame in sent.events} == {MAX_FRAME_BYTES}
    with (
        HostileUpstream(sent.honest) as upstream,
        bridge(config, tmp_path, upstream) as stage,
    ):
        wait_for_end(config, stage, LARGE_COUNT)
    assert_holds_exactly(config, sent.events)


def test_one_that_drips_holds_up_no_other(config: KafkaConfig, tmp_path: Path) -> None:
    sent = habits()
    slow = Habits([event(1)], SEED)
    with (
        HostileUpstream(slow.dripping) as dripping,
        HostileUpstream(sent.honest) as upstream,
        bridge(config, tmp_path, dripping, upstream) as stage,
    ):
        wait_for_end(config, stage, EVENTS_COUNT)
        assert dripping.cursors == [0]
    assert_holds_exactly(config, sent.events)
