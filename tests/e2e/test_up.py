"""`standpipe up` over the small capture: kills of its children and of itself, and its ends."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.judge import assert_nothing_lost_or_twice
from support.kafka import read_committed, wait_until
from support.up import STANDPIPE, UpProcess, is_alive, processes_of, running_up
from support.web import no_event_stream

from pipelines.captures import read_frames
from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError

pytestmark = [pytest.mark.broker, pytest.mark.slow]

ESCAPE = "\x1b"


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    return KafkaConfig(kafka, topic_prefix)


def status(config: KafkaConfig) -> tuple[int, Any]:
    """Runs `standpipe status --json` as somebody elsewhere would.

    Raises:
        BrokerUnavailableError: the broker did not answer it.
    """
    cluster = ["--bootstrap-servers", config.bootstrap_servers]
    prefix = ["--topic-prefix", config.topic_prefix]
    result = subprocess.run(
        [STANDPIPE, "status", "--json", *cluster, *prefix],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "no answer" in result.stderr:
        raise BrokerUnavailableError(result.stderr)
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)


def events_count(config: KafkaConfig) -> int:
    return len(read_committed(config, config.topic("events")))


def wait_for_children(up: UpProcess) -> dict[str, int]:
    """Waits until every stage was started; returns their pids."""
    stages = ["bridge.0", "explode.0", "explode.1", "compact.0", "resync.0", "analytics.0"]
    names = ["sim.0", "crawl.sweep", *stages]
    return {name: up.wait_for_start(name) for name in names}


def conditions_in(seen: dict[str, Any]) -> list[str]:
    return [p["condition"] for stage in seen["stages"] for p in stage["processes"]]


def wait_until_all_run(up: UpProcess, config: KafkaConfig) -> None:
    """Waits until every process of `wait_for_children` but the network's has beaten and runs."""
    seen: list[object] = []

    def all_run() -> bool:
        try:
            exit_code, overview = status(config)
        except BrokerUnavailableError as error:
            seen.append(str(error))
            raise
        conditions = conditions_in(overview)
        seen.append((exit_code, conditions, overview["problems"]))
        return exit_code == 0 and conditions == ["running"] * 7

    try:
        up.wait_for(all_run, "all to run")
    except AssertionError as failure:
        raise AssertionError(f"{failure}\nstatus, the last times: {seen[-10:]}") from None


def test_killed_stages_are_started_again_and_the_run_completes(
    config: KafkaConfig, capture_folder: Path, tmp_path: Path
) -> None:
    frames = list(read_frames(capture_folder / "frames.bin"))
    options = ["--sim", "--capture", str(capture_folder), "--rate", "25"]
    with running_up(config, tmp_path, *options) as up:
        pids = wait_for_children(up)
        for number, name in enumerate(("explode.1", "bridge.0", "compact.0"), start=1):
            enough = number * len(frames) // 8
            up.wait_for(lambda: events_count(config) >= enough, "the middle of the run")  # noqa: B023
            os.kill(pids[name], signal.SIGKILL)
            up.wait_for_start(name, 2)
        assert events_count(config) < len(frames), "the kills came too late to show anything"
        up.wait_for(lambda: events_count(config) >= len(frames), "an event for each frame")

        # Seen from elsewhere, all is well again once every process has beaten.
        wait_until_all_run(up, config)
        _, seen = status(config)
        names = [stage["name"] for stage in seen["stages"]]
        assert names == ["bridge", "explode", "compact", "resync", "analytics", "crawl"]

        up.interrupt()
        assert up.wait() == 0, up.output
    assert processes_of(config) == []
    assert up.output.count("has ended: signal 9") == 3
    assert ESCAPE not in up.output
    assert "frames " in up.output
    assert up.output.splitlines()[-1] == "stopped"
    exit_code, seen = status(config)
    assert exit_code == 1
    assert seen["problems"] == ["nothing runs: `standpipe up` starts a pipeline"]
    assert_nothing_lost_or_twice(config, capture_folder, frames)


def test_when_it_is_killed_its_children_die_with_it_and_the_next_run_goes_on(
    config: KafkaConfig, capture_folder: Path, tmp_path: Path
) -> None:
    options = ["--sim", "--capture", str(capture_folder), "--rate", "25"]
    with running_up(config, tmp_path, *options) as up:
        pids = list(wait_for_children(up).values())
        up.wait_for(lambda: events_count(config) > 0, "the first event")
        assert all(map(is_alive, pids))
        up.process.kill()
        up.process.wait(120)
        wait_until(lambda: not any(map(is_alive, pids)), "all children are gone")
    assert processes_of(config) == []
    with running_up(config, tmp_path, *options, "--workers", "1") as up:
        up.wait_for_start("compact.0")
        wait_until(lambda: status(config)[0] == 0, "nobody misses the killed")
        up.interrupt()
        assert up.wait() == 0, up.output


def test_a_second_interrupt_ends_all_at_once(
    config: KafkaConfig, capture_folder: Path, tmp_path: Path
) -> None:
    with running_up(config, tmp_path, "--sim", "--capture", str(capture_folder)) as up:
        bridge = wait_for_children(up)["bridge.0"]
        # Before they listen to signals, one ends them.
        wait_until_all_run(up, config)
        os.kill(bridge, signal.SIGSTOP)  # it will not end by itself
        up.interrupt()
        up.wait_for(lambda: "is stopped" in up.output, "the stop has begun")
        up.interrupt()
        assert up.wait() == 1
    assert "is killed" in up.output
    assert "did not end cleanly: signal 9" in up.output
    assert processes_of(config) == []


def test_a_stage_that_dies_again_and_again_ends_everything_with_its_last_words(
    config: KafkaConfig, tmp_path: Path
) -> None:
    with (
        no_event_stream() as no_relay,
        running_up(config, tmp_path, "--relay", no_relay) as up,
    ):
        assert up.wait() == 1
    assert "died 5 times within a minute, the last time: exit code 1" in up.output
    assert f"  Error: {no_relay}: the host has no event stream there" in up.output
    assert processes_of(config) == []


def test_two_runs_of_one_pipeline_do_not_fence_each_other(
    config: KafkaConfig, capture_folder: Path, tmp_path: Path
) -> None:
    with running_up(config, tmp_path, "--sim", "--capture", str(capture_folder)) as first:
        first.wait_for_start("explode.0")
        with running_up(config, tmp_path, "--relay", "relay.example") as second:
            assert second.wait() == 1
        assert f"another process runs the pipeline {config.topic_prefix}" in second.output
        assert first.process.poll() is None
        first.interrupt()
        assert first.wait() == 0, first.output
