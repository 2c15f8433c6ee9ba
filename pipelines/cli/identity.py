"""`standpipe identity`: DIDs, their documents and the PLC directory."""

import click

from pipelines.cli.identity_check import check


@click.group()
def command() -> None:
    """Check identities against what the PLC directory cannot make up."""


command.add_command(check)
