"""Signs of life on a real broker: how a stage starts, ends, and is not disturbed by them."""

import json
import threading

import pytest
from support.kafka import read_committed, wait_until

from pipelines.config import KafkaConfig
from pipelines.errors import FencedError
from pipelines.kafka import heartbeat as heartbeat_module
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.beat import Beat, Report, State, parse_beat
from pipelines.kafka.heartbeat import heartbeat
from pipelines.kafka.topics import validator

pytestmark = pytest.mark.broker


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, 2))
    return config


@pytest.fixture(autouse=True)
def quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat_module, "BEAT_INTERVAL_S", 0.05)


def beats(config: KafkaConfig, key: bytes) -> list[Beat]:
    messages = read_committed(config, config.topic("status"))
    values = [message.value or b"" for message in messages if message.key == key]
    for value in values:
        validator("status", 1).validate(json.loads(value))
    return [parse_beat(value) for value in values]


def states(config: KafkaConfig, key: bytes) -> list[State]:
    """The states, without repetitions."""
    found: list[State] = []
    for beat in beats(config, key):
        if found[-1:] != [beat.report.state]:
            found.append(beat.report.state)
    return found


def test_the_beats_follow_the_stage_and_the_last_one_says_how_it_ended(
    config: KafkaConfig,
) -> None:
    report = Report(State.STARTING)
    with heartbeat(config, "toy", "a", lambda: report):
        wait_until(lambda: len(beats(config, b"toy.a")) >= 2, "two beats")
        report = Report(State.RUNNING, None, {"inputs": 7}, {"refused": {"frame.op": 1}})
        wait_until(lambda: State.RUNNING in states(config, b"toy.a"), "the new state")
    assert states(config, b"toy.a") == [State.STARTING, State.RUNNING, State.STOPPED]
    last = beats(config, b"toy.a")[-1]
    assert last.report.counters == {"inputs": 7}
    assert last.report.groups == {"refused": {"frame.op": 1}}
    assert last.started_us < last.updated_us


def test_a_stage_that_fails_says_why(config: KafkaConfig) -> None:
    with (
        pytest.raises(FencedError),
        heartbeat(config, "toy", "a", lambda: Report(State.RUNNING)),
    ):
        raise FencedError("there is another one")
    last = beats(config, b"toy.a")[-1].report
    assert (last.state, last.detail) == (State.FAILED, "FencedError: there is another one")


def test_a_report_that_fails_does_not_disturb_the_stage(config: KafkaConfig) -> None:
    def fail() -> Report:
        raise LookupError

    done = False
    with heartbeat(config, "toy", "a", fail):
        done = True
    assert done
    assert beats(config, b"toy.a") == []


def test_a_broker_that_is_away_does_not_hold_up_the_end() -> None:
    nowhere = KafkaConfig("127.0.0.1:1")
    with heartbeat(nowhere, "toy", "a", lambda: Report(State.RUNNING)):
        pass
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]
