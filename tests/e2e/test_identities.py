"""Identities over several workers: what one has looked up, no other asks for again."""

import time
from collections import Counter
from pathlib import Path

import orjson
import pytest
from support.frames import publish_frames
from support.kafka import is_caught_up, read_committed, wait_until
from support.pipeline import running_pipeline
from support.recordings import load_recording

from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.frames import Kind, parse_envelope
from pipelines.config import KafkaConfig
from pipelines.identity.entries import parse_entry
from pipelines.kafka.beat import State, parse_beat
from pipelines.kafka.topics import validator
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer
from pipelines.verdict import Proven, judge_frame

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 4


def commits_of_steady_keys(capture: Path) -> list[bytes]:
    """Returns the commits of a capture that the current key proves, without any announcement."""
    recording = load_recording(capture)

    class CurrentKeys:
        current_key = recording.keys.current_key

        def refreshed_key(self, did: str, since_us: int | None) -> None:
            """There is no other."""

        def key_at(self, did: str, time_us: int) -> None:
            """Nor is there a history."""

    def is_steady(frame: bytes) -> bool:
        try:
            if parse_envelope(frame).kind is not Kind.COMMIT:
                return False
        except ProtocolError:
            return False
        return isinstance(judge_frame(frame, CurrentKeys(), None), Proven)

    return [frame for frame in recording.frames if is_steady(frame)]


def test_a_key_that_one_worker_has_looked_up_is_not_asked_for_by_another(
    kafka: str, topic_prefix: str, capture_folder: Path, tmp_path: Path
) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    frames = commits_of_steady_keys(capture_folder)
    dids = {parse_envelope(frame).did for frame in frames}
    thirds = [frames[number::3] for number in range(3)]
    assert {parse_envelope(frame).did for frame in thirds[0]} == dids
    with (
        SimServer(load_network(capture_folder)) as sim,
        running_pipeline(config, sim.addresses, tmp_path, PARTITIONS) as pipeline,
    ):

        def requests() -> Counter[str]:
            counts = Counter(sim.status()["requests"])
            assert set(counts) <= {"plc_document", "web_document"}
            return counts

        def work_off(some: list[bytes]) -> None:
            publish_frames(config, some, time.time_ns() // 1_000)
            wait_until(
                lambda: is_caught_up(config, "explode", config.topic("frames")),
                "every frame to be judged",
            )

        def running_workers() -> list[int]:
            beats = read_committed(config, config.topic("status"))
            latest = {message.key: parse_beat(message.value or b"").report for message in beats}
            return sorted(
                report.counters["partitions"]
                for report in latest.values()
                if report.state is State.RUNNING
            )

        first = pipeline.start_worker("0")
        work_off(thirds[0])
        assert requests().total() == len(dids)

        # A second one takes half of the partitions over.
        pipeline.start_worker("1")
        wait_until(lambda: running_workers() == [2, 2], "both workers to have partitions")
        work_off(thirds[1])
        assert requests().total() == len(dids)

        # And then everything, from one that had no time to say goodbye.
        first.kill()
        wait_until(lambda: 4 in running_workers(), "the other worker to have all partitions")
        work_off(thirds[2])
        assert requests().total() == len(dids)

    events = read_committed(config, config.topic("events"))
    assert len(events) == len(frames)
    entries = read_committed(config, config.topic("identities"))
    assert {parse_entry(entry.value or b"").did for entry in entries} == dids
    assert len(entries) == len(dids)
    for entry in entries:
        validator("identities", 1).validate(orjson.loads(entry.value or b""))
        assert entry.key == parse_entry(entry.value or b"").did.encode()
    assert read_committed(config, config.topic("quarantine")) == []
