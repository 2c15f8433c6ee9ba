"""`standpipe page`: shows what analytics finds."""

import click

from pipelines.cli.metrics_option import ADDRESS
from pipelines.cli.options import kafka_options
from pipelines.config import KafkaConfig
from pipelines.metrics.endpoint import Address
from pipelines.process import stop_event


@click.command()
@click.option(
    "--listen",
    "address",
    type=ADDRESS,
    default="127.0.0.1:8788",
    show_default=True,
    metavar="[HOST:]PORT",
    help="Where to serve; the host is 127.0.0.1 unless it is named.",
)
@kafka_options
def command(address: Address, kafka: KafkaConfig) -> None:
    """Serve a web page with what analytics finds: minutes, trends → a browser.

    Records by minute for the last three hours, by collection and language; of each hour of the
    last day the distinct accounts, and the links, hashtags and posts mentioned most often. It
    shows what is committed, and follows it. Anyone who can reach the address may read it: it asks
    for no password.

    Keys: left and right choose a minute, 1 2 3 a range, Escape goes back to now. Ctrl-C ends it.
    """
    # Only this command and analytics need what counts accounts.
    from pipelines.analytics.page import server  # noqa: PLC0415

    def tell(host: str, port: int) -> None:
        click.echo(f"http://{host}:{port}/")

    with stop_event() as stop:
        server.run(kafka, address.host, address.port, tell, stop.is_set)
