"""`standpipe inspect did`: everything that can be learned of one account's identity."""

import json
import time
from typing import Any

import click

from pipelines.atproto.syntax import Did
from pipelines.cli.identity_cached import (
    cached_as_json,
    cached_as_text,
    read_cached,
)
from pipelines.cli.identity_check import look_up, with_handle_check
from pipelines.cli.identity_view import findings_as_json, findings_as_text
from pipelines.cli.options import DID, kafka_options
from pipelines.cli.resolving import resolver_options
from pipelines.config import KafkaConfig
from pipelines.identity.resolver import Resolver


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
    help="Show what the topic identities has of it, and what workers make of that. Reads one "
    "partition from its beginning.",
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
    shown = findings_as_json(findings) | {"served_document": findings.served_document}
    cached: dict[str, Any] | None = None
    if shows_cached:
        entry = read_cached(account, kafka)
        cached = cached_as_json(entry, findings.document, time.time_ns() // 1_000)
    if is_json:
        click.echo(json.dumps(shown | {"cached": cached}))
    else:
        if findings.served_document is not None:
            click.echo(json.dumps(findings.served_document, indent=2))
        if cached is not None:
            click.echo("\n".join(cached_as_text(cached)))
        click.echo("\n".join(findings_as_text(findings)))
    is_wrong = shown["problems"] or (cached is not None and cached["problems"])
    return 1 if is_wrong else 0
