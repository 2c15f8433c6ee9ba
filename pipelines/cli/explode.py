"""`standpipe explode`: one worker that proves frames and publishes events and records."""

import click

from pipelines.cli.options import kafka_options
from pipelines.cli.resolving import resolver_options
from pipelines.config import KafkaConfig
from pipelines.explode import service
from pipelines.identity.keyring import KeyRing
from pipelines.identity.resolver import Resolver
from pipelines.process import stop_event


@click.command()
@click.option(
    "--slot",
    default="0",
    show_default=True,
    metavar="NAME",
    help="Stable name of this worker; each worker of a deployment has its own.",
)
@resolver_options
@kafka_options
def command(slot: str, resolver: Resolver, kafka: KafkaConfig) -> None:
    """Prove frames: atproto.frames → events, records, quarantine.

    Start as many as there are partitions, each with its own --slot; they share the work and take
    over from each other. Every output is committed together with the position of its frame, so
    that a reader with isolation.level=read_committed sees each exactly once.

    Ctrl-C finishes the batch in hand and leaves the group.
    """
    with stop_event() as stop:
        keys = KeyRing(resolver)
        try:
            service.run(kafka, keys, slot=slot, should_stop=stop.is_set)
        finally:
            keys.close()
