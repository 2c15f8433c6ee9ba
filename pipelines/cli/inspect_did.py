"""`standpipe inspect did`: everything that can be learned of one account's identity."""

import json
from typing import Any

import click
import orjson

from pipelines.atproto.syntax import Did
from pipelines.cli.identity_check import look_up, with_handle_check
from pipelines.cli.identity_view import findings_as_json, findings_as_text
from pipelines.cli.options import DID, kafka_options
from pipelines.cli.resolving import resolver_options
from pipelines.config import KafkaConfig
from pipelines.identity.entries import IdentityEntry, encode_entry, parse_entry
from pipelines.identity.resolver import Resolver
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.partition import partition_for
from pipelines.kafka.reading import read_to_end
from pipelines.mirror.service import TOPIC


@click.command(name="did")
@click.argument("account", metavar="DID", type=DID)
@click.option(
    "--handle/--no-handle",
    "checks_handle",
    default=True,
    show_default=True,
    help="Look up whether the handle leads back to the account.",
)
@click.option(
    "--cached",
    "shows_cached",
    is_flag=True,
    help="Show what the topic identities has of it, too. Reads one partition from its beginning.",
)
@click.option("--json", "is_json", is_flag=True, help="One JSON object on stdout.")
@resolver_options
@kafka_options
def did(
    account: Did,
    *,
    checks_handle: bool,
    shows_cached: bool,
    is_json: bool,
    resolver: Resolver,
    kafka: KafkaConfig,
) -> int:
    """Show an identity: document, key, server, handle, and the log behind them.

    Asks the directory or the account's host, past all caches; for did:plc the log is verified
    operation by operation, as by `standpipe identity check`.

    \b
    standpipe inspect did did:plc:ewvi7nxzyoun6zhxrhs64oiz
    standpipe inspect did did:plc:ewvi7nxzyoun6zhxrhs64oiz --cached

    Exit code 0 if nothing is wrong with it, 1 if something is.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    findings = look_up(account, resolver)
    if checks_handle:
        findings = with_handle_check(findings)
    shown = findings_as_json(findings)
    cached = _cached(account, kafka) if shows_cached else None
    if is_json:
        served = {"served_document": findings.served_document, "cached": cached}
        click.echo(json.dumps(shown | served))
        return 1 if shown["problems"] else 0
    if findings.served_document is not None:
        click.echo(json.dumps(findings.served_document, indent=2))
    click.echo("\n".join(findings_as_text(findings)))
    if shows_cached:
        click.echo("in the topic identities: " + (json.dumps(cached) if cached else "nothing"))
    return 1 if shown["problems"] else 0


def _cached(account: Did, kafka: KafkaConfig) -> dict[str, Any] | None:
    """Returns the newest entry that the topic has of an account, or None."""
    partition = partition_for(account, check_partitions(kafka, [TOPIC])[TOPIC])
    newest: IdentityEntry | None = None
    for message in read_to_end(kafka, [kafka.topic(TOPIC)], [partition]):
        if message.key == account.encode():
            entry = None if message.value is None else parse_entry(message.value)
            if entry is None or entry.supersedes(newest):
                newest = entry
    if newest is None:
        return None
    shown: dict[str, Any] = orjson.loads(encode_entry(newest))
    return shown
