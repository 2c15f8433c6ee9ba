"""The broker is killed in the middle of a run: every stage waits, and nothing is lost."""

import os
import signal
import time
from pathlib import Path

import pytest
from conftest import free_port
from support.judge import assert_nothing_lost_or_twice
from support.kafka import is_caught_up, read_committed, wait_until
from support.pipeline import run_command, running_pipeline

from pipelines.captures import read_frames
from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka.broker import LocalBroker, Running
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def events_count(config: KafkaConfig) -> int:
    """How many events can be read; none while partitions have no leader yet."""
    try:
        return len(read_committed(config, config.topic("events")))
    except BrokerUnavailableError:
        return 0


def test_stages_survive_a_broker_that_is_killed_and_comes_back(
    capture_folder: Path, tmp_path: Path
) -> None:
    broker = LocalBroker(tmp_path / "kafka", port=free_port(), controller_port=free_port())
    frames = list(read_frames(capture_folder / "frames.bin"))
    try:
        broker.start()
        config = KafkaConfig(broker.bootstrap_servers, "outage")
        with (
            SimServer(load_network(capture_folder), rate=40) as sim,
            running_pipeline(config, sim.addresses, tmp_path, partitions=2) as pipeline,
        ):
            stages = [
                pipeline.start_bridge(),
                pipeline.start_worker("0"),
                pipeline.start_compact(),
            ]
            events = config.topic("events")
            wait_until(lambda: len(read_committed(config, events)) > 50, "some events")
            status = broker.status()
            assert isinstance(status, Running)
            os.kill(status.pid, signal.SIGKILL)
            # Longer than the transaction time-out, so that open transactions are lost for good.
            time.sleep(12)
            assert [stage.is_running for stage in stages] == [True, True, True]
            broker.start()
            wait_until(
                lambda: events_count(config) >= len(frames),
                "an event for each frame after the outage",
            )
            wait_until(lambda: is_caught_up(config, "compact", events), "compact to be done")
            assert [stage.stop() for stage in stages] == [0, 0, 0]
            assert run_command(config, "audit", "--all", "--quiet").returncode == 0
            assert "broker_unreachable" in stages[0].log()
        assert_nothing_lost_or_twice(config, capture_folder, frames)
    finally:
        broker.stop()
