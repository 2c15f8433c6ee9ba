"""`standpipe sweep`: what changed while an upstream's events were missing."""

import json

import click

from pipelines.cli.listing_options import page_fetcher, rate_option
from pipelines.cli.metrics_option import metrics_option
from pipelines.cli.options import kafka_options
from pipelines.cli.tracking_options import Tracking, tracking_options
from pipelines.config import KafkaConfig
from pipelines.crawl.candidates import Judgment
from pipelines.crawl.lists import HostList
from pipelines.crawl.sweep import Sweep
from pipelines.identity.background import BackgroundFetcher
from pipelines.process import stop_event
from pipelines.relay import host_of, service_url


@click.command()
@click.option(
    "--relay",
    "relays",
    multiple=True,
    metavar="URL",
    help="An upstream as `standpipe bridge` has it, if it is at another address than https://host.",
)
@click.option("--follow", "follows", is_flag=True, help="Stay, and answer each further gap.")
@rate_option
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object on stdout.")
@tracking_options
@metrics_option
@kafka_options
def command(
    *,
    relays: tuple[str, ...],
    follows: bool,
    rate: float,
    as_json: bool,
    tracking: Tracking,
    kafka: KafkaConfig,
) -> int:
    """Ask for the repositories that changed in a gap of an upstream: gaps → resyncs.

    The topic `gaps` says where events of an upstream are known to be missing. For each upstream in
    it, the list of its repositories (listRepos) is compared with `repos`, and a request is written
    for each that is newer there, has another status, or is no longer listed. A repository that was
    never seen here counts if it changed since the gap began; others are for `standpipe backfill`.
    Where only some repositories are tracked (the same options as for `standpipe compact`), it
    counts if --track-dids names it; who wrote the first record of a --track-collection in the gap
    is taken up at the next one there, or by `standpipe backfill --collection … --again`.

    What explode and compact have not processed yet looks as if it were missing. So nothing is
    asked for until they have processed all that was in Kafka when the list was read.

    One sweep answers all gaps of an upstream that are known when it begins, once. Ctrl-C loses
    nothing, and neither does a kill: the next start goes on where it was, up to three days later.
    An upstream that is away is asked again a minute later with --follow, and by the next start
    without.

    Exit code 0 if every gap is answered, 1 if one is not.
    """
    urls = {host_of(relay): service_url(relay) for relay in relays}
    with (
        stop_event() as stop,
        # Upstreams are hosts that the operator named.
        BackgroundFetcher(page_fetcher(rate, 1, None), "lists") as background,
    ):
        sweep = Sweep(
            kafka,
            lambda host: HostList(urls.get(host) or service_url(host), background),
            stop,
            follows=follows,
            tracked=tracking.tracked(),
        )
        sweep.run()
    counts = {str(judgment): sweep.counts[judgment] for judgment in Judgment}
    if as_json:
        click.echo(json.dumps({**counts, "problems": sweep.problems}))
    else:
        shown = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        click.echo(f"{sweep.counts.total():,} repositories looked at ({shown or 'none'})")
    for host, problem in sweep.problems.items():
        click.echo(f"not swept: {host}: {problem}", err=True)
    return 1 if sweep.due else 0
