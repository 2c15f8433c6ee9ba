"""`standpipe backfill`: repositories that were there before we were."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import click
from yarl import URL

from pipelines.atproto.syntax import Nsid
from pipelines.cli import INTERRUPTED_EXIT_CODE
from pipelines.cli.listing_options import page_fetcher, rate_option
from pipelines.cli.options import NSID, kafka_options
from pipelines.cli.progress import moments
from pipelines.config import KafkaConfig
from pipelines.crawl.backfill import MAX_LISTS_COUNT, Backfill, Tally
from pipelines.crawl.candidates import Judgment
from pipelines.crawl.lists import DidFile, HostList, hosts_of
from pipelines.crawl.walking import RepoList
from pipelines.crawl.writing import STAGE
from pipelines.errors import ConfigError
from pipelines.identity.background import BackgroundFetcher
from pipelines.identity.fetching import Guard, origin_of, parse_base_url
from pipelines.process import stop_event
from pipelines.relay import service_url

DEFAULT_CONCURRENT_COUNT: Final = 16
SHOWN_PROBLEMS_COUNT: Final = 20
# A host that a relay names may list so many times the accounts that the relay has of it, and some
# more: a relay knows active ones only. Whoever owns a domain could make up any number of them.
MOST_FACTOR: Final = 4
MOST_UNKNOWN_COUNT: Final = 100_000

_CHOICES = """Say which repositories, in one of these ways:

  standpipe backfill --full-network --relay URL                those of all hosts of a relay
  standpipe backfill --hosts https://pds.example --hosts FILE  those of these hosts
  standpipe backfill --collection NSID --relay URL             those with records in a collection
  standpipe backfill --dids FILE                               those in a file, one a line"""


@click.command()
@click.option(
    "--hosts",
    multiple=True,
    metavar="URL|FILE",
    help="A host (a PDS, or a relay for all that it knows), or a file with one in each line. "
    "May be repeated.",
)
@click.option(
    "--dids",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file with a DID in each line.",
)
@click.option("--collection", type=NSID, help="Repositories with records in it.")
@click.option("--full-network", is_flag=True, help="Every host that the --relay reads.")
@click.option(
    "--relay",
    metavar="URL",
    help="The relay that is asked for hosts, or for the repositories of a --collection.",
)
@click.option("--again", "begins_anew", is_flag=True, help="Forget what earlier ones have read.")
@rate_option
@click.option(
    "--concurrency",
    type=click.IntRange(1, 500),
    default=DEFAULT_CONCURRENT_COUNT,
    show_default=True,
    help="Hosts that are asked at once.",
)
@click.option(
    "--allow-loopback",
    is_flag=True,
    help="Development: hosts may be on this machine, at any port.",
)
@click.option(
    "--pds-url",
    metavar="URL",
    help="Development: ask URL/NAME instead of the host NAME itself, but for the relay.",
)
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object on stdout.")
@kafka_options
def command(
    *,
    hosts: tuple[str, ...],
    dids: Path | None,
    collection: Nsid | None,
    full_network: bool,
    relay: str | None,
    begins_anew: bool,
    rate: float,
    concurrency: int,
    allow_loopback: bool,
    pds_url: str | None,
    as_json: bool,
    kafka: KafkaConfig,
) -> int:
    """Ask for repositories that were there before the pipeline was: lists → resyncs.

    Reads the lists of repositories that hosts give (listRepos), compares each with `repos`, and
    writes a request for every one that is missing, or that is older or not complete here. The
    stage resync fetches and proves them; this command waits as long as that is far behind.

    Ctrl-C, or a kill, loses nothing: the same command goes on after the last page. A host that is
    away is asked again for two minutes, then left for the next time; a list that leads in circles
    or never ends is cut, and the next time begun anew. A list that was read to its end is not read
    again without --again.

    Hosts are asked at public addresses only, but for those that were named here.

    \b
    Exit code 0   every list was read to its end
              1   some were not (they are named)
              130 it was stopped
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    if [bool(hosts), dids is not None, collection is not None, full_network].count(True) != 1:
        raise click.UsageError(_CHOICES)
    if (relay is not None) != (collection is not None or full_network):
        raise click.UsageError(f"--relay goes with --full-network or --collection.\n\n{_CHOICES}")
    given = [relay] if relay is not None else _named(hosts) if hosts else []
    named = [service_url(host) for host in given]
    servers = None if pds_url is None else parse_base_url("the base URL of all servers", pds_url)
    trusted = named if servers is None else [*named, servers]
    guard = Guard(allow_loopback, trusted=frozenset(origin_of(URL(url)) for url in trusted))
    fetcher = page_fetcher(rate, concurrency, guard)
    with stop_event() as stop, BackgroundFetcher(fetcher, "lists") as background:
        expected_count = None
        lists: Sequence[RepoList]
        if dids is not None:
            lists = [DidFile(dids)]
        elif full_network:
            found = list(islice(hosts_of(named[0], background), MAX_LISTS_COUNT))
            expected_count = sum(host.accounts_count or 0 for host in found) or None
            lists = [
                HostList(
                    host.url,
                    background,
                    most_count=MOST_FACTOR * (host.accounts_count or 0) + MOST_UNKNOWN_COUNT,
                    base=_server(host.url, servers),
                )
                for host in {host.url: host for host in found}.values()
            ]
        else:
            # The relay is where its operator says.
            lists = [
                HostList(
                    url,
                    background,
                    collection=collection,
                    base=None if relay is not None else _server(url, servers),
                )
                for url in named
            ]
        with moments(STAGE, "backfilling") as on_progress:
            backfill = Backfill(
                kafka,
                lists,
                stop,
                on_progress,
                expected_count=expected_count,
                concurrent_count=concurrency,
            )
            tally = backfill.run(begins_anew=begins_anew)
        was_stopped = stop.is_set() and not tally.is_complete
    click.echo(_json(tally) if as_json else _text(tally))
    for subject, problem in islice(tally.problems.items(), SHOWN_PROBLEMS_COUNT):
        click.echo(f"not read to its end: {subject}: {problem}", err=True)
    if was_stopped:
        return INTERRUPTED_EXIT_CODE
    return 0 if tally.is_complete else 1


def _server(url: str, servers: str | None) -> str | None:
    """Returns where a host is found, if not at its URL."""
    return None if servers is None else f"{servers}/{URL(url).host}"


def _named(hosts: Sequence[str]) -> list[str]:
    """Returns the hosts on the command line, and in the files there."""
    named: list[str] = []
    for host in hosts:
        path = Path(host)
        if not path.is_file():
            named.append(host)
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the hosts in {path}: {error}") from None
        texts = (line.strip() for line in lines)
        named += [text for text in texts if text and not text.startswith("#")]
    if not 0 < len(named) <= MAX_LISTS_COUNT:
        raise ConfigError(f"there are {len(named)} hosts: name 1 to {MAX_LISTS_COUNT:,}")
    return list(dict.fromkeys(named))


def _json(tally: Tally) -> str:
    return json.dumps(
        {
            "complete": tally.is_complete,
            "lists": tally.lists_count,
            "lists_read": tally.done_count,
            "lists_read_before": tally.before_count,
            "listed": tally.listed_count,
            "invalid": tally.invalid_count,
            **{str(judgment): tally.counts[judgment] for judgment in Judgment},
            "problems": tally.problems,
        }
    )


def _text(tally: Tally) -> str:
    counts = ", ".join(
        f"{tally.counts[judgment]:,} {judgment.replace('_', ' ')}"
        for judgment in Judgment
        if tally.counts[judgment]
    )
    lists = f"{tally.done_count:,} of {tally.lists_count:,} lists read"
    if tally.before_count:
        lists += f", {tally.before_count:,} before"
    return f"{tally.listed_count:,} repositories listed ({counts or 'none'}); {lists}"
