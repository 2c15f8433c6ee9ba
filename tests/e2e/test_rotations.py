"""Workers that lag behind new keys and are killed meanwhile: each commit is proven nonetheless."""

import json
import random
from pathlib import Path

import pytest
from support.judge import assert_judged_once_and_in_order, still_parked
from support.kafka import is_caught_up, read_committed, wait_until
from support.pipeline import running_pipeline

from pipelines.atproto.frames import Kind
from pipelines.config import KafkaConfig
from pipelines.identity.offline import OfflineKeys
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Mix, Settings
from pipelines.sim.service import SimServer

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 3
ACCOUNTS_COUNT = 40
EVENTS_COUNT = 6_000
SEED = 20260704
KILLS_COUNT = 6
MIX = Mix(p256=0.3, rotate_key=0.02, change_handle=0.02, deactivate_account=0.005)


def test_commits_of_former_keys_are_proven_by_workers_that_come_late(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    """All frames are in Kafka, and the directory has the last keys, before a worker starts."""
    config = KafkaConfig(kafka, topic_prefix)
    truth_path = tmp_path / "truth.jsonl"
    network = GeneratedNetwork(
        Settings(ACCOUNTS_COUNT, seed=SEED, mix=MIX),
        events_count=EVENTS_COUNT,
        truth_path=truth_path,
    )
    choose = random.Random(SEED)
    events = config.topic("events")
    with (
        SimServer(network) as sim,
        running_pipeline(config, sim.addresses, tmp_path, PARTITIONS) as pipeline,
    ):
        bridge = pipeline.start_bridge()
        frames = config.topic("frames")
        wait_until(lambda: len(read_committed(config, frames)) == EVENTS_COUNT, "all frames", 120)
        workers = [pipeline.start_worker("0"), pipeline.start_worker("1")]
        for number in range(KILLS_COUNT):
            share = (number + choose.random()) / (KILLS_COUNT + 1)
            wait_until(
                lambda: len(read_committed(config, events)) >= share * EVENTS_COUNT,  # noqa: B023
                "the moment of a kill",
            )
            victim = workers[number % 2]
            assert victim.is_running, victim.log()
            victim.kill()
            victim.start()
        wait_until(
            lambda: is_caught_up(config, "explode", frames) and not still_parked(config),
            "every frame to be judged",
        )
        assert [stage.stop() for stage in (bridge, *workers)] == [0, 0, 0]

    assert_judged_once_and_in_order(config, last_keys(network, tmp_path / "identities.jsonl"))
    assert read_committed(config, config.topic("quarantine")) == []
    assert len(read_committed(config, events)) == EVENTS_COUNT

    truth = [json.loads(line) for line in truth_path.read_bytes().splitlines()]
    last = {line["did"]: line["signing_key"] for line in truth}
    signed = [line for line in truth if line["kind"] in (Kind.COMMIT, Kind.SYNC)]
    former_count = sum(line["signing_key"] != last[line["did"]] for line in signed)
    assert former_count > len(signed) / 3, "hardly any frame needed the log"


def last_keys(network: GeneratedNetwork, path: Path) -> OfflineKeys:
    """What the directory says in the end, and the logs."""
    lines = [
        {"did": state.did, "document": state.identity.document()}
        | ({} if (log := state.identity.audit_log()) is None else {"plc_audit_log": log})
        for state in network.known.states()
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return OfflineKeys.load(path)
