"""Explode on a real broker: frames in, events, records and quarantine out."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.frames import NOW_US, publish_frames
from support.kafka import read_committed, wait_until

from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.frames import parse_envelope
from pipelines.captures import read_frames
from pipelines.config import KafkaConfig
from pipelines.explode import service
from pipelines.identity.offline import OfflineKeys
from pipelines.identity.resolver import Resolver
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.beat import State, parse_beat
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.topics import registry, validator
from pipelines.report import Outcome, report_frames
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer
from pipelines.verdict import Proven, judge_frame

pytestmark = pytest.mark.broker

PARTITIONS = 2


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    return config


@pytest.fixture
def frames(capture_folder: Path) -> list[bytes]:
    return list(read_frames(capture_folder / "frames.bin"))


def run_worker(
    config: KafkaConfig, sim: SimServer, folder: Path, is_done: Callable[[], bool], what: str
) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            resolver = Resolver(sim.addresses.plc, did_web_base=sim.addresses.did_web)
            service.run(config, resolver, folder, slot="0", should_stop=stop.is_set)
        except BaseException as error:  # noqa: BLE001 - the test judges it
            failures.append(error)

    worker = threading.Thread(target=run)
    worker.start()
    try:
        wait_until(lambda: bool(failures) or is_done(), what)
    finally:
        stop.set()
        worker.join(120)
    assert failures == []
    assert not worker.is_alive()


def test_every_frame_has_its_event_records_or_quarantine_as_the_report_says(
    config: KafkaConfig, frames: list[bytes], capture_folder: Path, tmp_path: Path
) -> None:
    offline = OfflineKeys.load(capture_folder / "identities.jsonl")
    reports = list(report_frames(frames, offline))
    publish_frames(config, frames, NOW_US)
    refused_count = sum(report.verdict is Outcome.REFUSED for report in reports)
    with SimServer(load_network(capture_folder)) as sim:
        # Every frame of the capture has an event: the refused ones are authentic.
        events_topic = config.topic("events")
        run_worker(
            config,
            sim,
            tmp_path,
            lambda: len(read_committed(config, events_topic)) >= len(frames),
            "an event for each frame",
        )
    events = read_committed(config, events_topic)
    assert len(events) == len(frames)
    quarantined = read_committed(config, config.topic("quarantine"))
    assert len(quarantined) == refused_count

    stored = {(m.partition, m.offset): m for m in read_committed(config, config.topic("frames"))}
    by_frame = dict(zip(frames, reports, strict=True))
    check = validator("events", 1)
    for message in events:
        event = json.loads(message.value or b"")
        check.validate(event)
        assert message.key == event["did"].encode()
        assert message.timestamp_ms == NOW_US // 1000
        source = stored[event["frame_partition"], event["frame_offset"]]
        report = by_frame[source.value or b""]
        assert (event["did"], event["seq"]) == (report.did, report.seq)
        is_refused = report.verdict is Outcome.REFUSED
        assert event["kind"] == ("refused" if is_refused else report.kind)
        assert event.get("reason") == (report.reason if is_refused else None)
        assert message.partition == source.partition
    for message in quarantined:
        headers = dict(message.headers)
        source = stored[int(headers["q.partition"]), int(headers["q.offset"])]
        assert (message.key, message.value) == (source.key, source.value)
        assert message.headers[: len(source.headers)] == source.headers
        assert headers["q.reason"].decode() == by_frame[source.value or b""].reason

    last = parse_beat(read_committed(config, config.topic("status"))[-1].value or b"").report
    assert last.state is State.STOPPED
    assert last.counters["inputs"] == len(frames)
    assert last.groups["refused"] == Counter(
        report.reason for report in reports if report.verdict is Outcome.REFUSED
    )
    by_kind = Counter(report.kind for report in reports if report.verdict is not Outcome.REFUSED)
    assert {**last.groups["proven"], **last.groups["unsigned"]} == by_kind
    assert last.groups["written"]["events"] == len(frames)
    assert last.counters["outputs"] == sum(last.groups["written"].values())

    _check_records(config, [json.loads(m.value or b"") for m in events], stored, offline)


def _check_records(
    config: KafkaConfig,
    events: Sequence[dict[str, Any]],
    stored: dict[tuple[int, int], InputMessage],
    offline: OfflineKeys,
) -> None:
    """Each record message is one op of one commit event, and its frame proves it."""
    expected: Counter[tuple[str, str, str, str | None]] = Counter()
    for event in events:
        for op in event.get("ops", []):
            uri = f"at://{event['did']}/{op['collection']}/{op['rkey']}"
            expected[uri, event["rev"], op["operation"], op["cid"]] += 1
    found: Counter[tuple[str, str, str, str | None]] = Counter()
    check = validator("records", 1)
    topics = registry()
    for topic in topics.specs["records"].topics:
        for message in read_committed(config, config.topic(topic)):
            record = json.loads(message.value or b"")
            check.validate(record)
            assert (message.key or b"").decode() == record["uri"]
            assert topics.topic_for_collection(record["collection"]) == topic
            headers = {name: value.decode() for name, value in message.headers}
            assert headers == {
                "kind": "record",
                **{name: record[name] for name in ("did", "collection", "operation", "rev")},
            }
            found[record["uri"], record["rev"], record["operation"], record["cid"]] += 1
            source = stored[record["frame_partition"], record["frame_offset"]]
            verdict = judge_frame(source.value or b"", offline, None)
            assert isinstance(verdict, Proven)
    assert found == expected
    assert sum(found.values()) > 100


def test_a_directory_that_is_down_makes_the_batch_wait_and_loses_nothing(
    config: KafkaConfig, frames: list[bytes], capture_folder: Path, tmp_path: Path
) -> None:
    some = [frame for frame in frames if _kind(frame) == "commit"][:20]
    publish_frames(config, some, NOW_US)
    with SimServer(load_network(capture_folder)) as sim:
        sim.faults.plc_down = True

        def is_done() -> bool:
            # Up again only after the worker has met the outage.
            if sum(sim.status()["requests"].values()) > 3:
                sim.faults.plc_down = False
            return len(read_committed(config, config.topic("events"))) >= len(some)

        run_worker(config, sim, tmp_path, is_done, "all events after the outage")
    assert read_committed(config, config.topic("quarantine")) == []
    assert len(read_committed(config, config.topic("events"))) == len(some)


def test_a_did_that_does_not_exist_is_refused_without_an_event(
    config: KafkaConfig, frames: list[bytes], tmp_path: Path
) -> None:
    commit = next(frame for frame in frames if _kind(frame) == "commit")
    (tmp_path / "frames.bin").write_bytes(b"")
    (tmp_path / "identities.jsonl").write_text("")
    publish_frames(config, [commit], NOW_US)
    with SimServer(load_network(tmp_path)) as sim:
        quarantine = config.topic("quarantine")
        run_worker(
            config,
            sim,
            tmp_path / "state",
            lambda: len(read_committed(config, quarantine)) == 1,
            "the quarantine",
        )
    [message] = read_committed(config, quarantine)
    assert dict(message.headers)["q.reason"] == b"identity.not_found"
    assert read_committed(config, config.topic("events")) == []


def _kind(frame: bytes) -> str | None:
    try:
        return parse_envelope(frame).kind
    except ProtocolError:
        return None
