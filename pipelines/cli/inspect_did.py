"""`standpipe inspect did`: everything that can be learned of one account's identity."""

import json
from typing import Any

import click

from pipelines.atproto.syntax import Did
from pipelines.cli.identity_check import look_up, with_handle_check
from pipelines.cli.identity_view import findings_as_json, findings_as_text
from pipelines.cli.options import DID
from pipelines.cli.resolving import resolver_options
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
@click.option("--json", "is_json", is_flag=True, help="One JSON object on stdout.")
@resolver_options
def did(account: Did, *, checks_handle: bool, is_json: bool, resolver: Resolver) -> int:
    """Show an identity: document, key, server, handle, and the log behind them.

    Asks the directory or the account's host, past all caches; for did:plc the log is verified
    operation by operation, as by `standpipe identity check`.

    \b
    standpipe inspect did did:plc:ewvi7nxzyoun6zhxrhs64oiz

    Exit code 0 if nothing is wrong with it, 1 if something is.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    findings = look_up(account, resolver)
    if checks_handle:
        findings = with_handle_check(findings)
    if is_json:
        shown: dict[str, Any] = findings_as_json(findings)
        click.echo(json.dumps(shown | {"served_document": findings.served_document}))
    else:
        if findings.served_document is not None:
            click.echo(json.dumps(findings.served_document, indent=2))
        click.echo("\n".join(findings_as_text(findings)))
    return 1 if findings.problems() else 0
