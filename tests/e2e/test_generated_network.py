"""A generated network through everything, with kills and take-overs: the state is the truth."""

import random
import shutil
from pathlib import Path

import pytest
from support.kafka import is_caught_up, read_committed, wait_until
from support.latest import read_latest, read_stores, wrong_repos
from support.pipeline import Stage, run_command, running_pipeline

from pipelines.atproto.cid import encode_cid
from pipelines.config import KafkaConfig
from pipelines.kafka.reading import log_ends
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Settings
from pipelines.sim.service import SimServer

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 3
ACCOUNTS_COUNT = 200
COMMITS_COUNT = 50_000
# Besides commits there are the other events of accounts, some three in a hundred.
EVENTS_COUNT = 52_500
SEED = 20261125
# Frames a second: slow enough that every kill meets work in progress.
RATE = 1_500
# A bridge that was killed comes back for what was emitted meanwhile.
RETAINED_BYTES = 1 << 30
RESTORED = '"event": "restored"'


def test_the_state_is_the_truth_whatever_was_killed_on_the_way(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    network = GeneratedNetwork(
        Settings(ACCOUNTS_COUNT, seed=SEED),
        events_count=EVENTS_COUNT,
        retained_bytes=RETAINED_BYTES,
    )
    choose = random.Random(SEED)
    with (
        SimServer(network, rate=RATE) as sim,
        running_pipeline(config, sim.addresses, tmp_path, PARTITIONS) as pipeline,
    ):
        bridge = pipeline.start_bridge()
        workers = [pipeline.start_worker("0"), pipeline.start_worker("1")]
        compact = pipeline.start_compact("0")
        victims = [compact, workers[0], bridge, compact, workers[1], compact]
        for number, victim in enumerate(victims):
            wait_for_share(config, (number + choose.random()) / (len(victims) + 3))
            kill(victim)
        # A second compact takes partitions over, dies, comes back, and gives them back.
        guest = pipeline.start_compact("1")
        wait_until(lambda: RESTORED in guest.log(), "the guest to have a partition", 120)
        restored_count = guest.log().count(RESTORED)
        kill(guest)
        wait_until(
            lambda: guest.log().count(RESTORED) > restored_count, "the guest to be back", 120
        )
        assert guest.stop() == 0
        events = config.topic("events")
        wait_until(
            lambda: len(read_committed(config, events)) >= EVENTS_COUNT,
            "an event for each frame",
            timeout_s=300,
        )
        wait_until(
            lambda: is_caught_up(config, "compact", events), "compact to be done", timeout_s=300
        )
        assert [stage.stop() for stage in (bridge, *workers, compact)] == [0, 0, 0, 0]
        assert_is_the_truth(config, network)

        folder = pipeline.store_folder("0")
        before = read_stores(folder, PARTITIONS)
        assert {did: store.paths for did, store in before.items()} == {
            did: {path: encode_cid(cid) for path, cid in account.cids().items()}
            for did, account in network.known.accounts().items()
        }
        shutil.rmtree(folder)
        restored_count = compact.log().count(RESTORED)
        compact.start()
        wait_until(
            lambda: compact.log().count(RESTORED) == restored_count + PARTITIONS,
            "the stores to be built again",
        )
        assert compact.stop() == 0
        assert read_stores(folder, PARTITIONS) == before

    audit = run_command(config, "audit", "--all", "--quiet")
    assert audit.returncode == 0, audit.stdout + audit.stderr


def assert_is_the_truth(config: KafkaConfig, network: GeneratedNetwork) -> None:
    latest = read_latest(config)
    accounts = network.known.accounts()
    assert latest.repos.keys() == accounts.keys()
    assert wrong_repos(latest, accounts) == {}
    commits_count = sum(
        dict(message.headers)["kind"] == b"commit"
        for message in read_committed(config, config.topic("events"))
    )
    assert commits_count >= COMMITS_COUNT
    assert latest.tombstones_count > 0
    assert any(account.state.status == "deleted" for account in accounts.values())


def kill(stage: Stage) -> None:
    assert stage.is_running, stage.log()
    stage.kill()
    stage.start()


def wait_for_share(config: KafkaConfig, share: float) -> None:
    """Waits until compact has done about that share of the events."""
    partitions = [(config.topic("repos"), number) for number in range(PARTITIONS)]
    wait_until(
        lambda: sum(log_ends(config, partitions).values()) >= share * EVENTS_COUNT,
        f"{share:.0%} of the events",
        timeout_s=300,
    )
