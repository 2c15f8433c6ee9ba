"""The broker of a run on this machine: started if need be, and stopped if it was started."""

from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.kafka.broker import LocalBroker, PortOccupied, Running, Unresponsive
from pipelines.kafka.jars import Announce


@contextmanager
def running_broker(broker: LocalBroker, announce: Announce) -> Iterator[str]:
    """Yields the bootstrap servers of a local broker that runs while the block does.

    A broker that runs already is left running, also one that somebody else started on this
    broker's port, in a container for example.

    Args:
        broker: to be started if it does not run.
        announce: told in a sentence what happens.

    Raises:
        ConfigError: the broker cannot be started here.
        BrokerUnavailableError: it does not come up.
    """
    match broker.status():
        case Running(_, servers):
            announce(f"the broker at {servers} runs already")
            yield servers
        case PortOccupied(is_kafka=True):
            announce(f"there is a Kafka broker at {broker.bootstrap_servers} already")
            yield broker.bootstrap_servers
        case Unresponsive():
            broker.start(announce=announce)
            yield broker.bootstrap_servers
        case _:
            announce("Kafka is starting")
            try:
                broker.start(announce=announce)
                yield broker.bootstrap_servers
            finally:
                announce("Kafka is stopping")
                broker.stop()
