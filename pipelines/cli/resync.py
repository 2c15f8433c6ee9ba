"""`standpipe resync`: one worker that fetches and proves the repositories that were asked for."""

from pathlib import Path

import click

from pipelines.cli.metrics_option import metrics_option
from pipelines.cli.options import kafka_options
from pipelines.cli.resolving import pds_url_option, resolver_options
from pipelines.config import KafkaConfig, state_directory
from pipelines.identity.fetching import parse_base_url
from pipelines.identity.resolver import Resolver
from pipelines.process import stop_event
from pipelines.resync import service

_MEBIBYTE = 1024 * 1024


@click.command()
@click.option(
    "--slot",
    default="0",
    show_default=True,
    metavar="NAME",
    help="Stable name of this worker; each worker of a deployment has its own.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    metavar="DIR",
    help="On the disk where repositories wait until they are written. Default: "
    "resync/<topic prefix>/<slot> in $STANDPIPE_HOME (.standpipe). Nothing is kept there.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=service.DEFAULT_CONCURRENT_COUNT,
    show_default=True,
    metavar="N",
    help="Repositories fetched at once.",
)
@click.option(
    "--per-host",
    type=click.IntRange(min=1),
    default=service.DEFAULT_HOST_COUNT,
    show_default=True,
    metavar="N",
    help="Of these, from one host.",
)
@click.option(
    "--host-budget",
    type=click.IntRange(min=2),
    default=service.DEFAULT_HOST_BUDGET,
    show_default=True,
    metavar="N",
    help="Requests that one host gets in any five minutes at most. One that answers with "
    "status 429 is left alone for as long as it asks.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=service.DEFAULT_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="The longest that one repository may take.",
)
@click.option(
    "--spool-mib",
    type=click.IntRange(min=1),
    default=service.DEFAULT_SPOOL_BYTES // _MEBIBYTE,
    show_default=True,
    metavar="N",
    help="Repositories that wait to be written: from so many MiB on nothing more is fetched.",
)
@pds_url_option
@resolver_options
@metrics_option
@kafka_options
@click.pass_context
def command(
    ctx: click.Context,
    *,
    slot: str,
    state_dir: Path | None,
    concurrency: int,
    per_host: int,
    host_budget: int,
    timeout: float,
    spool_mib: int,
    pds_url: str | None,
    resolver: Resolver,
    kafka: KafkaConfig,
) -> None:
    """Fetch what was asked for: atproto.resyncs → chunks, snapshots, repairs.

    \b
    resyncs    requests: compact asks where something is missing; others may, too
    chunks     the records of a repository as its server has them, in the order of their paths
    snapshots  a manifest once all chunks are there, or why there is no repository
    repairs    what is not done yet, with the next try

    Each repository is fetched whole (getRepo), from the server that the request names or the
    account's own one, and proven while it arrives: signature, tree, every record. Only then it
    counts. One of any size is taken with bounded memory; a host that trickles is cut off.

    \b
    a failure           is tried again after a minute, then two, … up to an hour
    a revision too old  is a stale copy: the next server is asked
    RepoNotFound, …     of the account's own server is an answer, and goes to snapshots
    one slow host       takes none but its own places (--per-host)

    Start one, or several with their own --slot; they share the partitions and take over from each
    other. What is pending is in the topic repairs; a kill loses nothing but downloads under way.

    Ctrl-C finishes the transaction in hand and leaves the group.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    folder = state_dir or state_directory() / "resync" / kafka.topic_prefix / slot
    base = None if pds_url is None else parse_base_url("the base URL of all servers", pds_url)
    limits = service.Limits(concurrency, per_host, host_budget, timeout, spool_mib * _MEBIBYTE)
    with stop_event() as stop:
        service.run(
            kafka,
            resolver,
            folder,
            slot=slot,
            should_stop=stop.is_set,
            servers=service.Servers(base, ctx.params["allow_loopback"]),
            limits=limits,
        )
