"""Serves what is seen of a deployment from outside: how far stages are behind, who runs."""

from collections.abc import Callable, Iterator

from pipelines.config import KafkaConfig
from pipelines.kafka.topics import registry
from pipelines.metrics.endpoint import Address, serving
from pipelines.metrics.samples import Sample, deployment_samples
from pipelines.status.stages import STAGES, retention_ms
from pipelines.status.watch import Watch


def run(kafka: KafkaConfig, address: Address, wait: Callable[[Address], None]) -> None:
    """Looks at a deployment every two seconds and serves what it sees.

    Args:
        kafka: the cluster and the prefix of the deployment's topics.
        address: where to serve.
        wait: is told where it listens, and returns when it is to end.

    Raises:
        BrokerUnavailableError: no broker answers at the start.
        ConfigError: there is no deployment with that prefix, or it cannot listen there.
    """
    kept = {
        stage.name: time_ms
        for stage in STAGES
        if (time_ms := retention_ms(stage, registry())) is not None
    }
    with Watch(kafka) as watch:

        def samples() -> Iterator[Sample]:
            return deployment_samples(watch.look(), kept)

        with serving(address, samples) as listening:
            wait(listening)
