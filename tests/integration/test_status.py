"""`standpipe status` on a real broker: what it shows, its exit code, and forgetting a process."""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer
from support.kafka import produce, wait_until

from pipelines.cli import _run
from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.beat import Beat, Report, State, encode_beat
from pipelines.kafka.heartbeat import heartbeat
from pipelines.status import watch as watch_module
from pipelines.status.watch import StatusReader, Watch, forget_dead

pytestmark = pytest.mark.broker

Status = Callable[..., tuple[int, str, str]]
# Of a process whose clock is ahead, and that so stays alive for as long as the test takes.
AHEAD_S = -3_600.0


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, 2))
    return config


@pytest.fixture
def status(config: KafkaConfig, capsys: pytest.CaptureFixture[str]) -> Status:
    """Runs the command; returns its exit code and what it wrote to stdout and stderr."""

    def run(*options: str) -> tuple[int, str, str]:
        cluster = ["--bootstrap-servers", config.bootstrap_servers]
        prefix = ["--topic-prefix", config.topic_prefix]
        code = _run(["status", *options, *cluster, *prefix])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def as_object(status: Status) -> tuple[int, Any]:
    code, text, _ = status("--json")
    return code, json.loads(text)


def write_beat(
    config: KafkaConfig, slot: str, age_s: float, *, machine: str = "worker-9", pid: int = 4711
) -> None:
    """Writes what a process said."""
    beat = a_beat(slot, age_s, machine=machine, pid=pid)
    write(config, beat.key, encode_beat(beat))


def a_beat(slot: str, age_s: float, *, machine: str = "worker-9", pid: int = 4711) -> Beat:
    """Returns what a process said so long ago."""
    now_us = time.time_ns() // 1000
    return Beat(
        stage="explode",
        slot=slot,
        machine=machine,
        pid=pid,
        started_us=now_us - 2 * round(abs(age_s) * 1e6),
        updated_us=now_us - round(age_s * 1e6),
        report=Report(State.RUNNING, None, {"inputs": 5}, {"refused": {"frame.op": 2}}),
    )


def write(config: KafkaConfig, key: bytes, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": config.bootstrap_servers})
    producer.produce(config.topic("status"), value, key, partition=0)
    assert producer.flush(20) == 0


def test_where_nothing_runs_it_says_so(status: Status) -> None:
    code, text, _ = status()
    assert code == 1
    assert "problem nothing runs" in text


def test_running_stages_are_well_and_their_numbers_are_shown(
    config: KafkaConfig, status: Status
) -> None:
    produce(config, config.topic("frames"), [(0, b"x"), (0, b"y"), (1, b"z")])
    bridge = Report(State.RUNNING, None, {"received": 4, "frames": 3})
    worker = Report(State.WAITING, "for rain", {"inputs": 2}, {"refused": {"frame.op": 1}})
    with (
        heartbeat(config, "bridge", "relay.example", lambda: bridge),
        heartbeat(config, "explode", "0", lambda: worker),
    ):
        # The beats are on their way: each end of a heartbeat waits for them, a look does not.
        for _ in range(50):
            code, value = as_object(status)
            if len(value["stages"]) == 2:
                break
        assert code == 0
        assert value["is_well"] is True
        assert value["frames_count"] == 3
        assert value["refused"] == {"frame.op": 1}
        explode = value["stages"][1]
        assert explode["lag"]["messages_count"] == 3
        (process,) = explode["processes"]
        assert (process["condition"], process["detail"]) == ("waiting", "for rain")
    code, text, _ = status("--once")
    assert code == 1
    assert "process explode.0  stopped" in text


def test_an_answer_does_not_wait_for_a_moment_without_beats(
    config: KafkaConfig, status: Status
) -> None:
    ends = threading.Event()

    def beat_without_a_rest() -> None:
        producer = Producer({"bootstrap.servers": config.bootstrap_servers, "linger.ms": 0})
        beat = encode_beat(a_beat("0", age_s=AHEAD_S))
        while not ends.wait(0.05):  # as forty processes do
            producer.produce(config.topic("status"), beat, b"explode.0", partition=0)
            producer.poll(0)
        assert producer.flush(20) == 0

    write_beat(config, "0", age_s=AHEAD_S)
    beats = threading.Thread(target=beat_without_a_rest)
    beats.start()
    try:
        code, value = as_object(status)
    finally:
        ends.set()
        beats.join()
    assert code == 0
    assert [process["slot"] for process in value["stages"][0]["processes"]] == ["0"]


def test_a_silent_process_is_a_problem_until_it_is_forgotten(
    config: KafkaConfig, status: Status
) -> None:
    write_beat(config, "0", age_s=AHEAD_S)
    write_beat(config, "1", age_s=120)
    code, value = as_object(status)
    assert code == 1
    conditions = [process["condition"] for process in value["stages"][0]["processes"]]
    assert conditions == ["running", "silent"]
    assert value["refused"] == {"frame.op": 4}
    assert status("--forget", "explode.1")[0] == 0
    code, value = as_object(status)
    assert (code, value["problems"]) == (0, [])
    assert value["refused"] == {"frame.op": 2}


def test_forgetting_needs_a_process_that_is_known(config: KafkaConfig, status: Status) -> None:
    write_beat(config, "0", age_s=AHEAD_S)
    code, _, error = status("--forget", "explode.7")
    assert code == 2
    assert "there is no process explode.7; known processes: explode.0" in error


def test_a_message_of_a_newer_version_is_passed_over(config: KafkaConfig, status: Status) -> None:
    write_beat(config, "0", age_s=AHEAD_S)
    write(config, b"later.0", b'{"stage": "later"}')
    write(config, b"later.1", b"not even JSON")
    code, text, log = status()
    assert code == 0
    assert log.count("beat_unreadable") == 2
    assert "later" not in text.splitlines()[0]


def test_without_a_pipeline_it_is_wrong_usage(
    kafka: str, topic_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = _run(["status", "--bootstrap-servers", kafka, "--topic-prefix", topic_prefix])
    assert code == 2
    assert "standpipe topics apply" in capsys.readouterr().err


def test_a_watch_that_cannot_read_says_so_and_goes_on(
    config: KafkaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "REFRESH_INTERVAL_S", 0.05)
    refresh = StatusReader.refresh
    is_away = False

    def refresh_or_fail(reader: StatusReader) -> None:
        if is_away:
            raise BrokerUnavailableError("no broker answers")
        refresh(reader)

    monkeypatch.setattr(StatusReader, "refresh", refresh_or_fail)
    write_beat(config, "0", age_s=AHEAD_S)
    with Watch(config) as watch:
        assert watch.look().problems == []
        is_away = True
        wait_until(lambda: watch.look().problems == ["no broker answers"], "the problem shows")
        write_beat(config, "1", age_s=AHEAD_S)
        is_away = False
        wait_until(lambda: len(watch.look().stages[0].processes) == 2, "it reads again")
        wait_until(lambda: watch.look().problems == [], "all is well again")


def test_the_dead_of_this_machine_are_forgotten_and_nobody_else(
    config: KafkaConfig, status: Status
) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = socket.gethostname()
    write_beat(config, "killed", age_s=120, machine=here, pid=ended.pid)
    write_beat(config, "alive", age_s=120, machine=here, pid=os.getpid())
    write_beat(config, "elsewhere", age_s=120, pid=ended.pid)
    forget_dead(config)
    _, value = as_object(status)
    slots = [process["slot"] for process in value["stages"][0]["processes"]]
    assert slots == ["alive", "elsewhere"]
