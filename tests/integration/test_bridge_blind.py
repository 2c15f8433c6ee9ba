"""Upstreams whose sockets are open and tell nothing, little or old news: the status shows it."""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from support import wire
from support.bridge import RunningBridge, create_topics, host_of, synthetic
from support.logs import Log, captured_logs

from pipelines.bridge import vitals
from pipelines.bridge.vitals import LEARNED_SLOTS, RECENT_SLOTS, Trouble
from pipelines.config import KafkaConfig
from pipelines.sim.network import CapturedNetwork
from pipelines.sim.service import SimServer
from pipelines.status.overview import Overview
from pipelines.status.watch import StatusReader

pytestmark = [pytest.mark.broker, pytest.mark.slow]

SLOT_S = 0.5
RATE = 100


@pytest.fixture
def config(kafka: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> KafkaConfig:
    monkeypatch.setattr(vitals, "SLOT_S", SLOT_S)
    config = KafkaConfig(kafka, topic_prefix)
    create_topics(config)
    return config


@pytest.fixture
def log() -> Iterator[Log]:
    with captured_logs("bridge") as log:
        yield log


def network(*, age_s: float = 0, passes: bool = True, seconds: float = 90) -> CapturedNetwork:
    """Events for some time from now on, or from a while ago; time passes in them, or does not."""
    start_s = time.time() - age_s
    frames = []
    for seq in range(1, round(seconds * RATE)):
        moment = datetime.fromtimestamp(start_s + seq / RATE * passes, UTC)
        payload = {
            "did": f"did:web:a{seq % 9}.example",
            "seq": seq,
            "time": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        frames.append(wire.frame("#identity", payload))
    return synthetic(*frames)


def seen(config: KafkaConfig) -> Overview:
    """What `standpipe status` would show."""
    with contextlib.closing(StatusReader(config)) as reader:
        reader.refresh()
        return reader.look()


def trouble_of(config: KafkaConfig) -> str | None:
    upstreams = seen(config).upstreams
    return upstreams[0].trouble if upstreams else None


@pytest.mark.parametrize(
    ("withheld_percent", "trouble"), [(100, Trouble.SILENT), (95, Trouble.SLOW)]
)
def test_a_relay_that_stops_telling_is_seen_and_so_is_its_recovery(
    config: KafkaConfig, log: Log, withheld_percent: int, trouble: Trouble
) -> None:
    learning_frames = round((LEARNED_SLOTS + 2 * RECENT_SLOTS) * SLOT_S * RATE)
    with (
        SimServer(network(), rate=RATE) as sim,
        RunningBridge(config, sim.addresses.relay) as bridge,
    ):
        bridge.wait_until(
            lambda: sim.status()["frames_emitted"] > learning_frames, "time to learn"
        )
        assert not log.has("upstream_blind")
        sim.faults.withheld_percent = withheld_percent
        bridge.wait_until(lambda: trouble_of(config) == trouble, "the trouble in the status")
        (problem,) = seen(config).problems
        assert problem.startswith(f"upstream {host_of(sim)} is {trouble} for ")
        assert log.has("upstream_blind")
        assert sim.status()["requests"]["subscribeRepos"] == 1
        sim.faults.withheld_percent = 0
        bridge.wait_until(lambda: trouble_of(config) is None, "the recovery in the status")
        assert log.has("blindness_over")
        assert seen(config).problems == []


def test_a_relay_that_sends_ever_older_events_is_seen(config: KafkaConfig, log: Log) -> None:
    with (
        SimServer(network(age_s=2 * vitals.LIVE_DELAY_S, passes=False), rate=RATE) as sim,
        RunningBridge(config, sim.addresses.relay) as bridge,
    ):
        bridge.wait_until(lambda: trouble_of(config) == Trouble.STALE, "the trouble in the status")
    assert log.last("upstream_blind")["trouble"] == "stale"
