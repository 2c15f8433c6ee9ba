"""`standpipe sim`: serves a small AT network on loopback until it is stopped."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from pipelines.process import stop_event
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Mix, Settings, Trouble, meanings
from pipelines.sim.network import load_network
from pipelines.sim.ports import CursorHabit, Network
from pipelines.sim.service import SimServer
from pipelines.sim.state import Faults

# Only so that no wait is without an end; a signal ends it at once.
_WAIT_S = 60.0

_CHOICES = """Choose one network to serve:
  standpipe sim --accounts 200 --rate 350     a generated network
  standpipe sim --capture DIR                 a recorded one"""


class _Command(click.Command):
    """Adds the names that `--mix` and `--trouble` take to the help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes them with their defaults."""
        super().format_epilog(ctx, formatter)
        for option, shares in _SHARES.items():
            defaults = dataclasses.asdict(shares())
            texts = meanings(shares).items()
            rows = [(f"{name}={defaults[name]:g}", text) for name, text in texts]
            with formatter.section(f"Probabilities for {option}, with their defaults"):
                formatter.write_dl(rows)


_SHARES: Mapping[str, type[Mix | Trouble]] = {"--mix": Mix, "--trouble": Trouble}


def _parse_shares(
    _ctx: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> dict[str, float]:
    names = meanings(_SHARES[parameter.opts[0]])
    shares: dict[str, float] = {}
    for value in values:
        name, _, text = value.partition("=")
        if name not in names:
            raise click.BadParameter(f"{value!r}: there are {', '.join(names)}.")
        try:
            shares[name] = float(text)
        except ValueError:
            raise click.BadParameter(f"{value!r}: write {name}=0.1, for example.") from None
    return shares


@click.command(name="sim", cls=_Command)
@click.option(
    "--accounts",
    "accounts_count",
    type=click.IntRange(min=1),
    metavar="N",
    help="A generated network with this many accounts at a time.",
)
@click.option(
    "--capture",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A captured network: frames.bin, identities.jsonl and, optionally, accounts.",
)
@click.option(
    "--rate",
    type=click.IntRange(min=0),
    default=0,
    show_default="as fast as they are read",
    metavar="R",
    help="Frames per second, from the first subscription on.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    show_default="0",
    metavar="S",
    help="With --accounts: which network. The same seed gives the same bytes.",
)
@click.option(
    "--events",
    "events_count",
    type=click.IntRange(min=1),
    show_default="no end",
    metavar="COUNT",
    help="With --accounts: how many frames there are.",
)
@click.option(
    "--records",
    "records_count",
    type=click.IntRange(min=1),
    show_default="none: the stream begins with the accounts",
    metavar="COUNT",
    help="With --accounts: records of each account before the stream begins.",
)
@click.option(
    "--large",
    "large_count",
    type=click.IntRange(min=1),
    show_default="no such account",
    metavar="COUNT",
    help="With --accounts: one more account, with so many records before the stream begins.",
)
@click.option(
    "--hosts",
    "hosts_count",
    type=click.IntRange(min=1),
    show_default="1",
    metavar="COUNT",
    help="With --accounts: PDSes among which the accounts are spread.",
)
@click.option(
    "--mix",
    "shares",
    multiple=True,
    callback=_parse_shares,
    metavar="NAME=SHARE",
    help="With --accounts: a probability; they are listed below. May be repeated.",
)
@click.option(
    "--trouble",
    "trouble",
    multiple=True,
    callback=_parse_shares,
    metavar="NAME=SHARE",
    help="With --accounts: likewise, of what goes wrong.",
)
@click.option(
    "--calm-after",
    type=click.IntRange(min=1),
    show_default="never",
    metavar="COUNT",
    help="With --trouble: frames after which nothing more goes wrong, and all that nobody was "
    "told of comes to light.",
)
@click.option(
    "--truth",
    "truth_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With --accounts: write what really happens, one JSON line a frame.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="any free one",
    help="Port on loopback.",
)
@click.option(
    "--cursor-habit",
    type=click.Choice([habit.value for habit in CursorHabit]),
    default=CursorHabit.EXCLUSIVE.value,
    show_default=True,
    help="Whether a cursor's own frame is left out, as deployed relays do, or sent again.",
)
@click.option(
    "--plc-rate",
    type=click.FloatRange(min=0, min_open=True),
    show_default="no limit",
    metavar="R",
    help="Requests a second that the PLC directory and the did:web host answer; others get 429.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the addresses as a JSON object.")
def command(
    *,
    accounts_count: int | None,
    folder: Path | None,
    rate: int,
    seed: int | None,
    events_count: int | None,
    records_count: int | None,
    large_count: int | None,
    hosts_count: int | None,
    shares: dict[str, float],
    trouble: dict[str, float],
    calm_after: int | None,
    truth_path: Path | None,
    port: int,
    cursor_habit: str,
    plc_rate: float | None,
    as_json: bool,
) -> None:
    """Serves a small AT network on loopback: relay socket, PLC directory, repositories.

    Prints the addresses when it is ready, and runs until Ctrl-C. At the address of the PLC
    directory, /sim/status counts what was served, and /sim/truth tells what really happened in a
    generated network.
    """
    if (accounts_count is None) == (folder is None):
        raise click.UsageError(_CHOICES)
    network: Network
    if accounts_count is not None:
        settings = Settings(
            accounts_count,
            seed=seed or 0,
            records_count=records_count or 0,
            large_count=large_count or 0,
            hosts_count=hosts_count or 1,
            mix=Mix(**shares),
            trouble=Trouble(**trouble),
            calm_after=calm_after,
        )
        network = GeneratedNetwork(settings, events_count=events_count, truth_path=truth_path)
    else:
        assert folder is not None
        given = {
            "--seed": seed,
            "--events": events_count,
            "--records": records_count,
            "--large": large_count,
            "--hosts": hosts_count,
            "--mix": shares or None,
            "--trouble": trouble or None,
            "--calm-after": calm_after,
            "--truth": truth_path,
        }
        for option, value in given.items():
            if value is not None:
                raise click.UsageError(f"{option} goes with --accounts.\n\n{_CHOICES}")
        network = load_network(folder)
    server = SimServer(
        network,
        port=port,
        rate=rate,
        cursor_habit=CursorHabit(cursor_habit),
        faults=Faults(plc_per_s=plc_rate),
    )
    with stop_event() as stopping, server:
        addresses = dataclasses.asdict(server.addresses)
        if as_json:
            click.echo(json.dumps(addresses))
        else:
            for name, url in addresses.items():
                click.echo(f"{name.replace('_', '-')} {url}")
        while not stopping.wait(_WAIT_S):
            pass
