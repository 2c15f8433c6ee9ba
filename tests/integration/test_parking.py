"""Frames whose account's key nobody can tell: parked, proven later, in order, on a real broker."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.frames import NOW_US, did_of, publish_frames
from support.identities import RecordedResolver
from support.judge import assert_judged_once_and_in_order, still_parked
from support.kafka import delete_before, is_caught_up, read_committed, wait_until
from support.recordings import Recording, load_recording
from support.workers import (
    Directory,
    Worker,
    wait_for_positions,
    wait_until_nothing_is_parked,
)

from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import Kind, parse_envelope
from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.explode import parking as parking_module
from pipelines.identity import waiting
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.beat import parse_beat
from pipelines.kafka.topics import validator

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 2


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


@pytest.fixture
def recording(capture_folder: Path) -> Recording:
    return load_recording(capture_folder)


@pytest.fixture
def directory(recording: Recording) -> Directory:
    return Directory(RecordedResolver(recording.keys))


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "WAIT_S", {"plc": 0.3, "web": 0.3})


def frames_of(recording: Recording, dids: Sequence[Did]) -> list[bytes]:
    return [frame for frame in recording.frames if did_of(frame) in dids]


def accounts(recording: Recording) -> list[Did]:
    """Returns the accounts, those with the most frames first."""
    dids = [did_of(frame) for frame in recording.frames]
    return sorted(dict.fromkeys(dids), key=lambda did: -dids.count(did))


def events_of(config: KafkaConfig, dids: Sequence[Did]) -> list[dict[str, Any]]:
    events = [orjson.loads(m.value or b"") for m in read_committed(config, config.topic("events"))]
    return [event for event in events if event["did"] in dids]


def waiting_worker(config: KafkaConfig) -> str | None:
    """Returns what the worker last said that it waits for."""
    beats = read_committed(config, config.topic("status"))
    return parse_beat(beats[-1].value or b"").report.detail if beats else None


def test_an_outage_in_the_middle_loses_and_refuses_nothing(
    config: KafkaConfig, recording: Recording, directory: Directory, tmp_path: Path
) -> None:
    """Spec: E-18. Accounts that are known go on; the others are proven in order afterwards."""
    half = len(recording.frames) // 2
    with Worker(config, directory.client, tmp_path):
        publish_frames(config, recording.frames[:half], NOW_US)
        wait_for_positions(config)
        before = len(read_committed(config, config.topic("events")))
        directory.is_away = True
        publish_frames(config, recording.frames[half:], NOW_US)
        wait_for_positions(config)
        waiting_count = len(still_parked(config))
        assert waiting_count > 0
        during = len(read_committed(config, config.topic("events"))) - before
        assert during > 0
        assert during + waiting_count == len(recording.frames) - half
        for message in read_committed(config, config.topic("parked")):
            if message.value is not None:
                validator("parked", 1).validate(json.loads(message.value))
        directory.is_away = False
        wait_until_nothing_is_parked(config)
    assert_judged_once_and_in_order(config, recording.keys)
    last = parse_beat(read_committed(config, config.topic("status"))[-1].value or b"").report
    assert last.groups["parked"] == {"frames": 0, "accounts": 0}
    assert last.groups["written"]["parked"] >= 2 * waiting_count
    assert last.counters["waits"] == 0


def test_a_directory_that_is_away_from_the_start_and_a_change_of_workers(
    config: KafkaConfig, recording: Recording, directory: Directory, tmp_path: Path
) -> None:
    directory.is_away = True
    publish_frames(config, recording.frames, NOW_US)
    with Worker(config, directory.client, tmp_path):
        wait_for_positions(config)
    with Worker(config, directory.client, tmp_path, slot="1"):
        directory.is_away = False
        wait_until_nothing_is_parked(config)
    assert_judged_once_and_in_order(config, recording.keys)


def test_workers_that_come_and_go_while_frames_wait(
    config: KafkaConfig, recording: Recording, directory: Directory, tmp_path: Path
) -> None:
    directory.is_away = True
    publish_frames(config, recording.frames, NOW_US)
    with Worker(config, directory.client, tmp_path):
        wait_for_positions(config)
        # From here on the frames are worked off, while partitions change hands twice.
        directory.is_away = False
        with Worker(config, directory.client, tmp_path, slot="1"):
            wait_until(lambda: events_of(config, accounts(recording)[:3]) != [], "some events")
        wait_until_nothing_is_parked(config)
    assert_judged_once_and_in_order(config, recording.keys)


def test_answers_that_are_slow_hold_up_nobody_else(
    config: KafkaConfig, recording: Recording, directory: Directory, tmp_path: Path
) -> None:
    slow = accounts(recording)[:4]
    directory.held |= set(slow)
    publish_frames(config, recording.frames, NOW_US)
    others = [did for did in accounts(recording) if did not in slow]
    with Worker(config, directory.client, tmp_path):
        wait_until(
            lambda: len(events_of(config, others)) == len(frames_of(recording, others)),
            "the frames of all other accounts",
        )
        assert {key.partition(b"/")[0].decode() for key in still_parked(config)} <= set(slow)
        directory.held.clear()
        wait_until_nothing_is_parked(config)
    assert_judged_once_and_in_order(config, recording.keys)
    # One request at a time for each account, however many frames wait for it.
    assert max(directory.asked[did] for did in slow) < 10


def test_an_account_that_never_resolves_is_given_up_and_harms_nobody(
    config: KafkaConfig, recording: Recording, directory: Directory, tmp_path: Path
) -> None:
    lost = accounts(recording)[0]
    directory.away.add(lost)
    publish_frames(config, recording.frames, NOW_US)
    with Worker(config, directory.client, tmp_path, waiting_s=2.0):
        wait_for_positions(config)
        wait_until_nothing_is_parked(config)
    events = events_of(config, [lost])
    frames = [parse_envelope(frame) for frame in frames_of(recording, [lost])]
    expected = [
        "unresolved" if envelope.kind in {Kind.COMMIT, Kind.SYNC} else envelope.kind
        for envelope in frames
    ]
    assert [event["kind"] for event in events] == expected
    assert expected.count("unresolved") > 3
    for event, envelope in zip(events, frames, strict=True):
        validator("events", 1).validate(event)
        assert event["seq"] == envelope.seq
    quarantined = [
        message
        for message in read_committed(config, config.topic("quarantine"))
        if message.key == lost.encode()
    ]
    assert len(quarantined) == expected.count("unresolved")
    stored = {(m.partition, m.offset): m for m in read_committed(config, config.topic("frames"))}
    for message in quarantined:
        headers = dict(message.headers)
        assert headers["q.reason"].decode() == Reason.IDENTITY_UNAVAILABLE
        source = stored[int(headers["q.partition"]), int(headers["q.offset"])]
        assert (message.key, message.value) == (source.key, source.value)
        assert message.headers[: len(source.headers)] == source.headers
    others = accounts(recording)[1:]
    assert len(events_of(config, others)) == len(frames_of(recording, others))
    last = parse_beat(read_committed(config, config.topic("status"))[-1].value or b"").report
    assert last.groups["refused"][Reason.IDENTITY_UNAVAILABLE] == len(quarantined)


def test_frames_that_were_deleted_while_they_waited_leave_a_suspicion(
    config: KafkaConfig, recording: Recording, directory: Directory, tmp_path: Path
) -> None:
    directory.is_away = True
    publish_frames(config, recording.frames, NOW_US)
    with Worker(config, directory.client, tmp_path):
        wait_for_positions(config)
    waiting_keys = still_parked(config)
    assert len(waiting_keys) > len(recording.frames) / 2
    frames = read_committed(config, config.topic("frames"))
    ends = {message.partition: message.offset + 1 for message in frames}
    delete_before(config, config.topic("frames"), ends)
    directory.is_away = False
    with Worker(config, directory.client, tmp_path):
        wait_until_nothing_is_parked(config)
    events = [
        event for event in events_of(config, accounts(recording)) if event["kind"] == "unresolved"
    ]
    given_up = [f"{event['did']}/{event['frame_offset']}".encode() for event in events]
    assert sorted(given_up) == sorted(waiting_keys)
    for event in events:
        assert event["detail"] == "it was not kept as long as it had to wait"
    assert read_committed(config, config.topic("quarantine")) == []


def test_when_no_more_may_wait_the_worker_does_and_goes_on_afterwards(
    config: KafkaConfig,
    recording: Recording,
    directory: Directory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parking_module, "MAX_PARKED_COUNT", 20)
    directory.is_away = True
    publish_frames(config, recording.frames, NOW_US)
    with Worker(config, directory.client, tmp_path):
        wait_until(lambda: waiting_worker(config) is not None, "the worker to wait")
        assert waiting_worker(config) == "20 frames wait for identities, and no more may"
        assert 20 <= len(still_parked(config)) <= 20 * PARTITIONS
        assert not is_caught_up(config, "explode", config.topic("frames"))
        directory.is_away = False
        wait_for_positions(config)
        wait_until_nothing_is_parked(config)
    assert_judged_once_and_in_order(config, recording.keys)
