"""Command lines of ours that stand in documents and units, read as the command line reads them."""

import shlex

import click

from pipelines.cli import _standpipe


def parse_command(line: str) -> str:
    """Takes a command line apart and returns the command's name.

    Fails if there is no such command, or none with those options and arguments.

    Args:
        line: without the program's name. Its values are parsed, and nothing is run.
    """
    words = shlex.split(line)
    command: click.Command = _standpipe
    context = click.Context(_standpipe)
    name: list[str] = []
    while isinstance(command, click.Group):
        assert words, f"{line!r} names no command"
        name.append(words.pop(0))
        found = command.get_command(context, name[-1])
        assert found is not None, f"there is no command {' '.join(name)!r}"
        command = found
    command.make_context(" ".join(name), words, resilient_parsing=False)
    return " ".join(name)
