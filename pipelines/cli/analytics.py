"""`standpipe analytics`: counts records, and follows what they are about."""

import click

from pipelines.cli.metrics_option import metrics_option
from pipelines.cli.options import kafka_options
from pipelines.config import KafkaConfig
from pipelines.process import stop_event


@click.command()
@click.option(
    "--slot",
    default="0",
    show_default=True,
    metavar="NAME",
    help="Stable name of this process in the status; each of a deployment has its own.",
)
@metrics_option
@kafka_options
def command(slot: str, kafka: KafkaConfig) -> None:
    """Count records: atproto.records.* → minutes, trends.

    A Faust application. Each second it writes how many records every minute brought, by
    collection and language, and what every hour is about: distinct accounts, the most frequent
    links, hashtags and posts. It commits its positions in the same transaction, so that a reader
    with isolation.level=read_committed sees each record counted once.

    Start up to as many as there are partitions; they share the work and take over from each other.
    Ctrl-C commits what is counted and leaves the group.
    """
    with stop_event() as stop:
        # Faust takes a second to import; only this command needs it.
        from pipelines.analytics import service  # noqa: PLC0415

        service.run(kafka, slot=slot, should_stop=stop.is_set)
