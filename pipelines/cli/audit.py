"""`standpipe audit`: repositories against their signed roots, a record against its source."""

import random
from pathlib import Path

import click

from pipelines.atproto.syntax import AtUri, Did
from pipelines.cli.audit_record import audit_record
from pipelines.cli.audit_repos import Choice, audit_repos
from pipelines.cli.options import DID_OR_RECORD, kafka_options
from pipelines.cli.resolving import identities_option, pds_url_option, resolver_options
from pipelines.compact.servers import Servers
from pipelines.config import KafkaConfig
from pipelines.identity.resolver import Resolver


@click.command()
@click.argument("target", metavar="[DID | AT-URI]", type=DID_OR_RECORD, required=False)
@click.option("--all", "wants_all", is_flag=True, help="Audit every repository.")
@click.option(
    "--sample", type=click.IntRange(1), metavar="N", help="Audit N repositories, chosen at random."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a repository, on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="Only repositories that do not match.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    metavar="N",
    help="Choose the same repositories for --sample again, as long as there are the same.",
)
@click.option(
    "--against-pds",
    is_flag=True,
    help="Ask each account's server, too: for its newest commit, or for a proof of the record.",
)
@click.option(
    "--repair",
    is_flag=True,
    help="Have those that are not right fetched again: write a request for each to resyncs.",
)
@pds_url_option
@identities_option
@resolver_options
@kafka_options
@click.pass_context
def command(
    ctx: click.Context,
    *,
    target: Did | AtUri | None,
    wants_all: bool,
    sample: int | None,
    as_json: bool,
    quiet: bool,
    seed: int | None,
    against_pds: bool,
    repair: bool,
    pds_url: str | None,
    identities: Path | None,
    resolver: Resolver,
    kafka: KafkaConfig,
) -> int:
    """Recompute the roots of repositories from latest.* and compare them with what was signed.

    \b
    matches   the records have exactly the root in the commit that the account signed: nothing is
              missing, nothing left over, nothing of another revision
    empty     there is no commit, and there are no records
    mismatch  anything else
    changing  events came in whenever it was looked at, or it is being repaired

    A desynchronized repository is compared with the commit at which its records stand. The topics
    are read as any reader sees them, also while the pipeline runs.

    With --against-pds the head is compared with what the account's server names as its newest:

    \b
    equal        the same commit
    behind       the server has a newer one, also after some seconds for it to arrive
    drift        the server has an older or another one, or answers that it has no repository
    inactive     the account is not active here, and nobody is asked
    unreachable  no server is named, or it does not answer; does not count

    An AT-URI names one record. The frame that it came with is read from frames and proven again,
    with a key of its time; of a record from a fetched repository, the snapshot.

    \b
    proven     its source has it, and holds; the output names it
    refuted    its source is something else, or does not hold
    expired    its source is no longer kept
    undecided  nobody can tell a key of that time now

    With --against-pds the account's server proves it, too (getRecord), or that it has none: the
    commit has to be signed with the current key, and its tree has to lead to the record. A server
    that proves another one is behind or in drift, like one whose proof does not hold. If it has no
    repository to give, or proves nothing, that does not count.

    Exit code 0 if every repository matches (or is empty), or the record is proven, and none is
    behind or in drift; 1 if not.

    \b
    Examples:  standpipe audit did:plc:ewvi7nxzyoun6zhxrhs64oiz
               standpipe audit at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.actor.profile/self
               standpipe audit --against-pds at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/a.b.c/self
               standpipe audit --sample 1000 --seed 7 --against-pds --repair
               standpipe audit --all --quiet
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    if [target is not None, wants_all, sample is not None].count(True) != 1:
        raise click.UsageError("name one DID or record, or use --all, or --sample N.")
    if seed is not None and sample is None:
        raise click.UsageError("--seed goes with --sample N.")
    if isinstance(target, AtUri) and repair:
        raise click.UsageError("--repair is for whole repositories.")
    servers = None
    if against_pds:
        servers = Servers(resolver, pds_url, allow_loopback=ctx.params["allow_loopback"])
    if isinstance(target, AtUri):
        return audit_record(kafka, target, identities, resolver, servers, as_json=as_json)
    if seed is None:
        seed = random.randrange(2**32)  # noqa: S311 - a sample, no secret
    return audit_repos(
        kafka,
        Choice(target, sample, seed),
        servers,
        as_json=as_json,
        is_quiet=quiet,
        is_repairing=repair,
    )
