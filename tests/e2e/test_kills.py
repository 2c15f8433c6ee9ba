"""`kill -9` of the bridge and of workers in the middle of a recording: nothing lost or twice."""

import random
from pathlib import Path

import pytest
from support.judge import assert_nothing_lost_or_twice
from support.kafka import read_committed, wait_until
from support.pipeline import running_pipeline

from pipelines.captures import read_frames
from pipelines.config import KafkaConfig
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 3
SEED = 20260704


def run_with_kills(
    config: KafkaConfig, capture: Path, folder: Path, *, rate: float, kills_count: int
) -> None:
    """Runs a capture through everything while stages are killed at seeded moments."""
    frames = list(read_frames(capture / "frames.bin"))
    choose = random.Random(SEED)
    with (
        SimServer(load_network(capture), rate=rate) as sim,
        running_pipeline(config, sim.addresses, folder, PARTITIONS) as pipeline,
    ):
        bridge = pipeline.start_bridge()
        workers = [pipeline.start_worker("0"), pipeline.start_worker("1")]
        events = config.topic("events")
        victims = [bridge, workers[0], workers[1]] * (kills_count // 3)
        for number, victim in enumerate(victims):
            # In the middle: at a seeded moment of this kill's share of the recording.
            share = (number + choose.random()) / (len(victims) + 1)
            wait_until(
                lambda: sim.status()["frames_emitted"] >= share * len(frames),  # noqa: B023
                "the moment of a kill",
            )
            assert victim.is_running, victim.log()
            victim.kill()
            victim.start()
        # The last kill, too, came while there was work left.
        assert len(read_committed(config, events)) < len(frames)
        wait_until(
            lambda: len(read_committed(config, events)) >= len(frames),
            "an event for each frame",
        )
        assert [stage.stop() for stage in (bridge, *workers)] == [0, 0, 0]

    assert_nothing_lost_or_twice(config, capture, frames)


def test_small_capture(
    kafka: str, topic_prefix: str, capture_folder: Path, tmp_path: Path
) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    run_with_kills(config, capture_folder, tmp_path, rate=20, kills_count=6)


@pytest.mark.shared
def test_whole_recording(kafka: str, topic_prefix: str, shared_data: Path, tmp_path: Path) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    run_with_kills(config, shared_data / "pds-corpus", tmp_path, rate=60, kills_count=9)
