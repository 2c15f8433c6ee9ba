"""Of a whole network's events the state of some repositories is kept: exactly those, and whole."""

import json
from pathlib import Path

import pytest
from support.kafka import is_caught_up, read_committed, wait_until
from support.latest import read_latest, wrong_repos
from support.pipeline import run_command, running_pipeline

from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Mix, Settings
from pipelines.sim.service import SimServer

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 2
EVENTS_COUNT = 1_200
COLLECTION = "app.bsky.graph.block"
# They have a past, so that whoever is taken up has to be fetched; so nobody may be gone by then.
SETTINGS = Settings(40, seed=3, records_count=5, mix=Mix(delete_account=0, deactivate_account=0))


def test_the_state_of_those_who_are_tracked_is_the_truth_and_of_nobody_else_there_is_any(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    network = GeneratedNetwork(SETTINGS, events_count=EVENTS_COUNT)
    with (
        SimServer(network) as sim,
        running_pipeline(config, sim.addresses, tmp_path, PARTITIONS) as pipeline,
    ):
        listed = {state.did for state in network.known.states()[:3]}
        path = tmp_path / "dids.txt"
        path.write_text("\n".join(listed))
        tracking = ("--track-dids", str(path), "--track-collection", COLLECTION)
        pipeline.start_worker("0")
        pipeline.start_resync()
        compact = pipeline.start_compact("0", 0, *tracking)
        pipeline.start_bridge()
        wait_until(lambda: len(frames(config)) == EVENTS_COUNT, "all frames")
        wait_until(lambda: is_caught_up(config, "explode", config.topic("frames")), "events")
        expected = listed | writers_of(config, COLLECTION)
        accounts = network.known.accounts()
        assert len(listed) < len(expected) < len(accounts)
        wait_until(lambda: tracked_rightly(config, network, expected), "the state of these")

        # Who is known stays, whatever the list has become; and a backfill takes others up.
        assert compact.stop() == 0
        another = min(accounts.keys() - expected)
        path.write_text(another)
        pipeline.start_compact("0", 0, "--track-dids", str(path))
        asked = run_command(config, "backfill", "--dids", str(path), "--json")
        assert asked.returncode == 0, asked.stderr
        assert json.loads(asked.stdout)["requested"] == 1
        expected.add(another)
        wait_until(
            lambda: tracked_rightly(config, network, expected), "the one that was asked for"
        )


def tracked_rightly(config: KafkaConfig, network: GeneratedNetwork, expected: set[Did]) -> bool:
    """Whether the state is that of these accounts, and the truth."""
    latest = read_latest(config)
    accounts = {
        did: account for did, account in network.known.accounts().items() if did in expected
    }
    return (
        latest.repos.keys() == expected
        and latest.records.keys() <= expected
        and not wrong_repos(latest, accounts)
    )


def frames(config: KafkaConfig) -> list[bytes | None]:
    return [message.value for message in read_committed(config, config.topic("frames"))]


def writers_of(config: KafkaConfig, collection: str) -> set[Did]:
    """Returns the accounts of which an operation in a collection was proven."""
    events = [json.loads(m.value or b"") for m in read_committed(config, config.topic("events"))]
    return {
        Did(event["did"])
        for event in events
        if any(op["collection"] == collection for op in event.get("ops", ()))
    }
