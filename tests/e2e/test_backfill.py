"""A network that nobody followed: from the lists of its hosts to the latest records."""

import json
from pathlib import Path

import pytest
from support.kafka import read_committed, wait_until
from support.latest import read_latest, wrong_repos
from support.pipeline import full_network, run_command, running_pipeline

from pipelines.compact.state import Sync
from pipelines.config import KafkaConfig
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Settings
from pipelines.sim.service import SimServer

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 2
ACCOUNTS_COUNT = 24


def test_what_was_there_before_is_here_afterwards(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    settings = Settings(ACCOUNTS_COUNT, seed=9, records_count=5, hosts_count=3)
    # Nobody reads its stream, so nothing happens in it.
    network = GeneratedNetwork(settings, events_count=10)
    with (
        SimServer(network) as sim,
        running_pipeline(config, sim.addresses, tmp_path, PARTITIONS) as pipeline,
    ):
        pipeline.start_compact()
        pipeline.start_resync()
        result = run_command(config, *full_network(sim.addresses))
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["requested"] == ACCOUNTS_COUNT
        accounts = network.known.accounts()
        assert len(accounts) == ACCOUNTS_COUNT
        wait_until(
            lambda: (
                len(read_latest(config).repos) == ACCOUNTS_COUNT
                and not wrong_repos(read_latest(config), accounts)
            ),
            "every repository to be as it is on its server",
            timeout_s=120,
        )
        # What is here is not asked for again.
        again = run_command(config, *full_network(sim.addresses), "--again")
        summary = json.loads(again.stdout)
    assert (summary["requested"], summary["synchronized"]) == (0, ACCOUNTS_COUNT)


def _synchronized(config: KafkaConfig) -> set[bytes | None]:
    return {
        message.key
        for message in read_committed(config, config.topic("repos"))
        if dict(message.headers)["sync"] == Sync.SYNCHRONIZED.encode()
    }
