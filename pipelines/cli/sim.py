"""`standpipe sim`: serves a captured network on loopback until it is stopped."""

import dataclasses
import json
from pathlib import Path

import click

from pipelines.process import stop_event
from pipelines.sim.emission import CursorHabit
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer

# Only so that no wait is without an end; a signal ends it at once.
_WAIT_S = 60.0


@click.command(name="sim")
@click.option(
    "--capture",
    "folder",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="The captured network: frames.bin, identities.jsonl and, optionally, accounts.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="any free one",
    help="Port on loopback.",
)
@click.option(
    "--rate",
    type=click.IntRange(min=0),
    default=0,
    show_default="all at once",
    metavar="R",
    help="Frames per second, from the first subscription on.",
)
@click.option(
    "--cursor-habit",
    type=click.Choice([habit.value for habit in CursorHabit]),
    default=CursorHabit.EXCLUSIVE.value,
    show_default=True,
    help="Whether a cursor's own frame is left out, as deployed relays do, or sent again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the addresses as a JSON object.")
def command(*, folder: Path, port: int, rate: int, cursor_habit: str, as_json: bool) -> None:
    """Serves a small AT network on loopback: relay socket, PLC directory, did:web, repositories.

    Prints the addresses when it is ready, and runs until Ctrl-C.
    """
    network = load_network(folder)
    server = SimServer(network, port=port, rate=rate, cursor_habit=CursorHabit(cursor_habit))
    with stop_event() as stopping, server:
        addresses = dataclasses.asdict(server.addresses)
        if as_json:
            click.echo(json.dumps(addresses))
        else:
            for name, url in addresses.items():
                click.echo(f"{name.replace('_', '-')} {url}")
        while not stopping.wait(_WAIT_S):
            pass
