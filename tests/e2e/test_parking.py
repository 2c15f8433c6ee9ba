"""Frames that wait for an identity, with the real commands: outages, `kill -9`, a crowd."""

import random
import time
from base64 import b32encode
from pathlib import Path

import orjson
import pytest
from support import wire
from support.frames import NOW_US, publish_frames
from support.identities import FakeResolver
from support.judge import assert_judged_once_and_in_order, still_parked
from support.kafka import read_committed, wait_until
from support.oracle import build, cid_of
from support.pipeline import Stage, running_pipeline
from support.recordings import load_recording
from support.repo import SIGNER, commit_fields, sign_commit
from support.workers import (
    Directory,
    Worker,
    wait_for_positions,
    wait_until_nothing_is_parked,
)

from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 3
SEED = 20261124
CROWD_COUNT = 10_000


def run_through_an_outage(
    config: KafkaConfig, capture: Path, folder: Path, *, rate: float, outage_s: float
) -> None:
    """Runs a capture while its directory is away for a time, and workers are killed meanwhile."""
    recording = load_recording(capture)
    choose = random.Random(SEED)
    with (
        SimServer(load_network(capture), rate=rate) as sim,
        running_pipeline(config, sim.addresses, folder, PARTITIONS) as pipeline,
    ):
        bridge = pipeline.start_bridge()
        workers = [pipeline.start_worker("0"), pipeline.start_worker("1")]

        def events_count() -> int:
            return len(read_committed(config, config.topic("events")))

        wait_until(lambda: events_count() > 0, "the first accounts to be known")
        sim.faults.plc_down = True
        mended_s = time.monotonic() + outage_s
        wait_until(lambda: bool(still_parked(config)), "frames to be parked")
        before_count = events_count()
        for victim in workers:
            time.sleep(choose.random())
            restart(victim)
            assert still_parked(config)
        time.sleep(max(0.0, mended_s - time.monotonic()))
        assert events_count() > before_count  # accounts that are known go on
        assert still_parked(config)
        sim.faults.plc_down = False
        # And once more while what was parked is worked off.
        restart(workers[0])
        wait_until(
            lambda: len(read_committed(config, config.topic("frames"))) == len(recording.frames),
            "every frame",
        )
        wait_for_positions(config)
        wait_until_nothing_is_parked(config)
        assert [stage.stop() for stage in (bridge, *workers)] == [0, 0, 0]
    assert_judged_once_and_in_order(config, recording.keys)


def restart(victim: Stage) -> None:
    assert victim.is_running, victim.log()
    victim.kill()
    victim.start()


def test_an_outage_of_a_small_network(
    kafka: str, topic_prefix: str, capture_folder: Path, tmp_path: Path
) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    run_through_an_outage(config, capture_folder, tmp_path, rate=20, outage_s=20)


@pytest.mark.shared
def test_an_outage_of_a_minute(
    kafka: str, topic_prefix: str, shared_data: Path, tmp_path: Path
) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    run_through_an_outage(config, shared_data / "pds-corpus", tmp_path, rate=30, outage_s=60)


def test_one_account_that_never_resolves_among_ten_thousand_that_do(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, PARTITIONS))
    crowd = [plc_did(number) for number in range(CROWD_COUNT)]
    lost = plc_did(CROWD_COUNT)
    frames = [sync_frame(did, number + 1) for number, did in enumerate(crowd)]
    for number in range(3):
        frames.insert(number * CROWD_COUNT // 2, sync_frame(lost, CROWD_COUNT + 1 + number))
    publish_frames(config, frames, NOW_US)
    resolver = FakeResolver()
    resolver.keys = dict.fromkeys([*crowd, lost], SIGNER.key)
    directory = Directory(resolver)
    directory.away.add(lost)
    with Worker(config, directory.client, tmp_path):
        wait_for_positions(config)
        wait_until(
            lambda: {key.partition(b"/")[0] for key in still_parked(config)} == {lost.encode()},
            "the others to be proven",
        )
        assert len(still_parked(config)) == 3
        assert seqs_of_events(config) == {did: [n + 1] for n, did in enumerate(crowd)}
        assert {directory.asked[did] for did in crowd} == {1}
        directory.away.clear()
        wait_until_nothing_is_parked(config)
    assert seqs_of_events(config)[lost] == [CROWD_COUNT + 1 + number for number in range(3)]
    assert read_committed(config, config.topic("quarantine")) == []


def plc_did(number: int) -> Did:
    return Did(f"did:plc:{b32encode(number.to_bytes(15)).decode().lower()}")


def sync_frame(did: Did, seq: int) -> bytes:
    """Returns a frame that only its signature proves."""
    commit = sign_commit(commit_fields(build({}).root, did=did))
    payload = {
        "seq": seq,
        "did": did,
        "rev": wire.rev(0),
        "blocks": wire.car(cid_of(commit), [commit]),
        "time": wire.START_TIME,
    }
    return wire.frame("#sync", payload)


def seqs_of_events(config: KafkaConfig) -> dict[str, list[int]]:
    """Returns the sequence numbers of each account's events, in order."""
    found: dict[str, list[int]] = {}
    for message in read_committed(config, config.topic("events")):
        event = orjson.loads(message.value or b"")
        assert event["kind"] == "sync"
        found.setdefault(event["did"], []).append(event["seq"])
    return found
