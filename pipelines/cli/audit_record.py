"""`standpipe audit at://…`: one record, what proves it here, and what its server proves."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from pipelines.atproto.syntax import AtUri, Did
from pipelines.cli.resolving import keys_of
from pipelines.compact.provenance import Proof
from pipelines.compact.servers import Servers, compare_one
from pipelines.compact.service import output_topics
from pipelines.compact.standing import Comparison, Standing
from pipelines.compact.tracing import Trace, find_record, trace
from pipelines.config import KafkaConfig
from pipelines.identity.resolver import Resolver
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.admitting import deployed
from pipelines.kafka.partition import partition_for

_KEYS_COUNT = 100  # there is one account


def audit_record(
    kafka: KafkaConfig,
    uri: AtUri,
    identities: Path | None,
    resolver: Resolver,
    servers: Servers | None,
    *,
    as_json: bool,
) -> int:
    """Proves one record again and says by what; returns the exit code."""
    if uri.collection is None or uri.rkey is None:
        raise click.UsageError("a record's URI has three parts: at://did/collection/rkey.")
    if not uri.authority.startswith("did:"):
        raise click.UsageError(
            f"{uri.authority} is a handle, and topics know accounts by their DIDs: "
            "`standpipe identity check` tells whose it is."
        )
    did, path = Did(uri.authority), f"{uri.collection}/{uri.rkey}"
    partition = partition_for(did, check_partitions(kafka, ["repos"])["repos"])
    topics = output_topics(kafka, *deployed(kafka))
    look = partial(find_record, kafka, topics, partition, did, path)
    comparison = None
    if servers is None:
        record = look()
    else:
        with servers:
            record, comparison = compare_one(look, did, path, servers)
    if record is None:
        click.echo(f"at://{did}/{path} is not in {topics.latest_of(uri.collection)}", err=True)
        if comparison is not None:
            absent = {"uri": f"at://{did}/{path}", "proof": None, "pds": comparison._asdict()}
            click.echo(json.dumps(absent) if as_json else _server_line(comparison))
        return 0 if comparison is not None and comparison.standing is Standing.EQUAL else 1
    with keys_of(identities, resolver, _KEYS_COUNT) as keys:
        found = trace(kafka, partition, record, keys)
    if as_json:
        click.echo(json.dumps(_members(found, comparison)))
    else:
        click.echo("\n".join(_lines(found)))
        if comparison is not None:
            click.echo(_server_line(comparison))
    is_apart = comparison is not None and comparison.is_apart
    return 0 if found.judgment.proof is Proof.PROVEN and not is_apart else 1


def _members(found: Trace, comparison: Comparison | None) -> dict[str, Any]:
    record, judgment = found.record, found.judgment
    return {
        "uri": record.uri,
        "proof": judgment.proof,
        "problem": judgment.problem,
        "cid": record.cid,
        "rev": record.rev,
        "source": _kind(found),
        "place": str(found.place),
        "host": record.source.host,
        "seq": record.source.seq,
        "received_us": record.source.received_us,
        "commit": judgment.commit,
        "signing_key": judgment.signing_key,
        "pds": None if comparison is None else comparison._asdict(),
    }


def _lines(found: Trace) -> Iterator[str]:
    record, judgment = found.record, found.judgment
    source = record.source
    received = datetime.fromtimestamp(source.received_us / 1e6, UTC).isoformat(" ", "seconds")
    yield f"{judgment.proof}  {record.uri}"
    if judgment.problem is not None:
        yield f"  why        {judgment.problem}"
    yield f"  record     {record.cid}, revision {record.rev}"
    yield f"  {_kind(found):<9}  {found.place}"
    if source.seq is None:
        yield f"  fetched    from {source.host}, {received}"
    else:
        yield f"  received   from {source.host}, number {source.seq}, {received}"
    if judgment.commit is not None:
        yield f"  commit     {judgment.commit}"
    if judgment.signing_key is not None:
        yield f"  key        {judgment.signing_key}"
        if found.record.source.seq is not None:
            look = f"standpipe inspect frame {found.place} --key {judgment.signing_key}"
            yield f"  look       {look}"


def _server_line(comparison: Comparison) -> str:
    what = comparison.problem or f"proves the same in revision {comparison.rev}"
    return f"  server     {comparison.standing}: {what}"


def _kind(found: Trace) -> str:
    return "frame" if found.record.source.snapshot_offset is None else "snapshot"
