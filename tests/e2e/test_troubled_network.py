"""A network in which much goes wrong, through everything, with kills: the state is the truth.

What is dropped, broken, imported or moved is noticed, fetched from the account's server, proven
and applied; also what only a repair can know to be gone.
"""

import random
from pathlib import Path

import pytest
from support.kafka import read_committed, wait_until
from support.latest import read_latest, wrong_repos
from support.network import make_events
from support.pipeline import running_pipeline

from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.kafka.reading import log_ends
from pipelines.kafka.topics import registry
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Mix, Settings, Trouble
from pipelines.sim.service import SimServer

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 2
# With this seed no repository needs more than two repairs: the fourth within an hour would wait.
SEED = 14
EVENTS_COUNT = 1_500
# Frames a second: slow enough that every kill meets work in progress.
RATE = 300
SETTINGS = Settings(
    60,
    seed=SEED,
    hosts_count=3,
    # A new key is told of before anything is signed with it: a repository that is fetched in
    # between waits a minute for its next try.
    mix=Mix(delete=0.1, delete_account=0.003, create_account=0.5, rotate_key=0),
    trouble=Trouble(
        drop_commit=0.005,
        skip_commit=0.005,
        wrong_since=0.005,
        wrong_prev_data=0.005,
        storm_sync=0.001,
        flap_account=0.004,
        import_repo=0.005,
        migrate_account=0.004,
        return_account=0.5,
    ),
    calm_after=1_200,
)


def test_the_state_is_the_truth_whatever_went_wrong(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    network = GeneratedNetwork(SETTINGS, events_count=EVENTS_COUNT)
    choose = random.Random(SEED)
    with (
        SimServer(network, rate=RATE) as sim,
        running_pipeline(config, sim.addresses, tmp_path, PARTITIONS) as pipeline,
    ):
        worker, compact, resync = (
            pipeline.start_worker("0"),
            pipeline.start_compact(),
            pipeline.start_resync(),
        )
        bridge = pipeline.start_bridge()
        victims = [bridge, compact, resync, worker]
        for number, victim in enumerate(victims):
            wait_for_share(config, (number + choose.random()) / (len(victims) + 1))
            assert victim.is_running, victim.log()
            victim.kill()
            victim.start()
        wait_until(
            lambda: sim.status()["frames_emitted"] == EVENTS_COUNT, "every frame to be sent"
        )
        wait_until(lambda: not wrong(config, network), "the state to be the truth")
        wait_until(lambda: not pending(config), "every repair to be done")
        assert [stage.stop() for stage in pipeline.stages] == [0, 0, 0, 0]
    assert wrong(config, network) == {}
    # Of these nobody was told: only whole repositories show that they are gone.
    removed = {
        f"at://{untold.state.did}/{op.path}"
        for event in make_events(SETTINGS, EVENTS_COUNT)
        for untold in event.untold
        for op, record in untold.ops
        if record is None
    }
    assert gone_by_repair(config) & removed


def wrong(config: KafkaConfig, network: GeneratedNetwork) -> dict[Did, str]:
    return wrong_repos(read_latest(config), network.known.accounts())


def pending(config: KafkaConfig) -> set[bytes | None]:
    """Returns the repositories that are still asked for."""
    found = {m.key: m.value for m in read_committed(config, config.topic("repairs"))}
    return {did for did, value in found.items() if value is not None}


def gone_by_repair(config: KafkaConfig) -> set[str]:
    """Returns the URIs of records of which a repair wrote that they are gone."""
    return {
        (message.key or b"").decode()
        for topic in registry().specs["latest"].topics
        for message in read_committed(config, config.topic(topic))
        if message.value is None and dict(message.headers)["live"] == b"false"
    }


def wait_for_share(config: KafkaConfig, share: float) -> None:
    """Waits until about that share of the events is there."""
    partitions = [(config.topic("events"), number) for number in range(PARTITIONS)]
    wait_until(
        lambda: sum(log_ends(config, partitions).values()) >= share * EVENTS_COUNT,
        f"{share:.0%} of the events",
    )
