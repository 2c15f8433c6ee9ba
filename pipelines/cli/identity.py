"""`standpipe identity`: DIDs, their documents and the PLC directory."""

import click

from pipelines.cli.identity_check import check
from pipelines.cli.identity_import import follow_command, import_command


@click.group()
def command() -> None:
    """Check identities, and fill a deployment with those of a whole directory."""


command.add_command(check)
command.add_command(import_command)
command.add_command(follow_command)
