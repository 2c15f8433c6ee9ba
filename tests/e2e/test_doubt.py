"""An upstream says of accounts that they are not active, and they go on: their servers decide."""

from pathlib import Path

import orjson
import pytest
from chaos.relay import RelayedNetwork
from support.accounts import Outside
from support.events import account
from support.kafka import read_committed, wait_until
from support.latest import read_latest, wrong_repos
from support.pipeline import running_pipeline

from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Mix, Settings
from pipelines.sim.service import SimServer

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 2
SETTINGS = Settings(
    10,
    seed=5,
    mix=Mix(create_account=0.5, delete_account=0, deactivate_account=0, rotate_key=0),
)


def test_whoever_goes_on_is_asked_about_and_lacks_nothing(
    kafka: str, topic_prefix: str, capture_folder: Path, tmp_path: Path
) -> None:
    """As after a move, of which the old server speaks last. Spec: H-05, H-13."""
    config = KafkaConfig(kafka, topic_prefix)
    generated = GeneratedNetwork(SETTINGS)
    network = RelayedNetwork(generated, capture_folder, SETTINGS.seed)
    with (
        SimServer(network, rate=100) as sim,
        running_pipeline(config, sim.addresses, tmp_path, PARTITIONS) as pipeline,
    ):
        pipeline.start_worker("0")
        compact = pipeline.start_compact()
        pipeline.start_resync()
        pipeline.start_bridge()
        wait_until(
            lambda: len(known(config, generated)) == SETTINGS.accounts_count, "all accounts"
        )
        dids = known(config, generated)
        hidden = [account(1, active=False, status="takendown", did=did) for did in dids]
        Outside(config).send(*hidden)
        wait_until(lambda: bool(doubted(config)), "the first doubt")
        compact.kill()
        compact.start()
        wait_until(lambda: doubted(config) == dids, "every account to write something")
        network.hosts.freeze()
        wait_until(lambda: network.relays[0].is_drained, "all that happened to be sent")
        wait_until(
            lambda: not wrong_repos(read_latest(config), generated.known.accounts()),
            "the state to be the truth",
        )
        assert [stage.stop() for stage in pipeline.stages] == [0, 0, 0, 0]


def known(config: KafkaConfig, network: GeneratedNetwork) -> set[Did]:
    """Returns the generated accounts of which something is known."""
    return network.known.accounts().keys() & read_latest(config).repos.keys()


def doubted(config: KafkaConfig) -> set[Did]:
    """Returns who was asked for because of a doubt."""
    requests = [
        orjson.loads(m.value or b"") for m in read_committed(config, config.topic("resyncs"))
    ]
    return {Did(request["did"]) for request in requests if request["reason"] == "account.inactive"}
