"""`standpipe audit`: repositories against their signed roots, a record against its source."""

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from rich.console import Console

from pipelines.atproto.syntax import AtUri, Did
from pipelines.cli.audit_record import audit_record
from pipelines.cli.options import DID_OR_RECORD, kafka_options
from pipelines.cli.resolving import identities_option, resolver_options
from pipelines.compact.audit import Audit, Finding, read_partition
from pipelines.compact.service import output_topics
from pipelines.config import KafkaConfig
from pipelines.identity.resolver import Resolver
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.admitting import deployed
from pipelines.kafka.partition import partition_for

_GOOD = frozenset({Finding.MATCHES, Finding.EMPTY})


@click.command()
@click.argument("target", metavar="[DID | AT-URI]", type=DID_OR_RECORD, required=False)
@click.option("--all", "wants_all", is_flag=True, help="Audit every repository.")
@click.option(
    "--sample", type=click.IntRange(1), metavar="N", help="Audit N repositories, chosen at random."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a repository, on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="Only repositories that do not match.")
@identities_option
@resolver_options
@kafka_options
def command(
    *,
    target: Did | AtUri | None,
    wants_all: bool,
    sample: int | None,
    as_json: bool,
    quiet: bool,
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

    An AT-URI names one record. The frame that it came with is read from frames and proven again,
    with a key of its time; of a record from a fetched repository, the snapshot.

    \b
    proven     its source has it, and holds; the output names it
    refuted    its source is something else, or does not hold
    expired    its source is no longer kept
    undecided  nobody can tell a key of that time now

    Exit code 0 if every repository matches (or is empty), or the record is proven; 1 if not.

    \b
    Examples:  standpipe audit did:plc:ewvi7nxzyoun6zhxrhs64oiz
               standpipe audit at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.actor.profile/self
               standpipe audit --all --quiet
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    if [target is not None, wants_all, sample is not None].count(True) != 1:
        raise click.UsageError("name one DID or record, or use --all, or --sample N.")
    if isinstance(target, AtUri):
        return audit_record(kafka, target, identities, resolver, as_json=as_json)
    did = target
    partitions = check_partitions(kafka, ["repos"])["repos"]
    counts: Counter[Finding] = Counter()
    records_count = 0
    for audit in _audits(kafka, did, sample, partitions):
        counts[audit.finding] += 1
        records_count += audit.records_count
        if not (quiet and audit.finding in _GOOD):
            click.echo(_json_line(audit) if as_json else _text_line(audit))
    if did is not None and not counts:
        click.echo(
            f"{did} is not in {kafka.topic('repos')}: no event of it was ever seen", err=True
        )
        return 1
    summary = ", ".join(f"{counts[finding]} {finding}" for finding in Finding if counts[finding])
    click.echo(
        f"{counts.total()} repositories, {records_count} records: {summary or 'none'}", err=True
    )
    return 0 if counts.keys() <= _GOOD else 1


def _audits(
    kafka: KafkaConfig, did: Did | None, sample: int | None, partitions: int
) -> Iterator[Audit]:
    topics = output_topics(kafka, *deployed(kafka))
    numbers = range(partitions) if did is None else [partition_for(did, partitions)]
    missing = sample
    with Console(stderr=True).status("") as status:
        for done, number in enumerate(numbers):
            status.update(f"partition {number} ({done} of {len(numbers)} done)")
            with read_partition(kafka, topics, number, did) as reading:
                dids: Iterable[Did] = reading.dids()
                if missing is not None:
                    known = list(dids)
                    share = -(-missing // (len(numbers) - done))
                    dids = random.sample(known, min(share, len(known)))
                    missing -= len(dids)
                yield from reading.audit(dids)


def _text_line(audit: Audit) -> str:
    parts = [audit.finding, audit.did, audit.sync, f"{audit.records_count} records"]
    parts.append(audit.problem or audit.expected or "no commit")
    return "\t".join(parts)


def _json_line(audit: Audit) -> str:
    return json.dumps(dataclasses.asdict(audit))
