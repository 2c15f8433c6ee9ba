"""`standpipe up`: the whole pipeline on this machine, in one command."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from pipelines import logs
from pipelines.cli.options import is_default, kafka_options
from pipelines.cli.tracking_options import Tracking, tracking_options
from pipelines.config import KafkaConfig, state_directory
from pipelines.kafka import admin
from pipelines.kafka.broker import LocalBroker
from pipelines.kafka.locks import exclusive
from pipelines.process import stop_event
from pipelines.status.display import Display
from pipelines.status.watch import Watch, forget_dead
from pipelines.up.children import Size, Upstream, network_of, stages_of, supervised
from pipelines.up.cluster import running_broker
from pipelines.up.runner import Runner
from pipelines.up.session import Source, run
from pipelines.up.supervisor import Child

SIM_TOPIC_PREFIX = "sim"
DEFAULT_ACCOUNTS_COUNT = 200
DEFAULT_RATE = 100
MAX_PROCESSES_COUNT = 64

_CHOICES = """Say where the events come from, in one of these ways:

  standpipe up --relay wss://relay.example   a relay; several --relay are possible
  standpipe up --sim                         a generated network on this machine
  standpipe up --sim --capture DIR           a recorded one"""


@click.command()
@click.option(
    "--relay",
    "relays",
    multiple=True,
    metavar="URL",
    help="A relay to read: wss://host, https://host, host, or ws://host:port.",
)
@click.option(
    "--cursor",
    default="live",
    show_default=True,
    metavar="live|oldest|N|TIME",
    help="Where to start with a relay the first time, as in `standpipe bridge`.",
)
@click.option("--sim", "is_simulated", is_flag=True, help="Run on a network of our own.")
@click.option(
    "--accounts",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"With --sim: accounts of the generated network.  [default: {DEFAULT_ACCOUNTS_COUNT}]",
)
@click.option(
    "--rate",
    type=click.IntRange(min=0),
    metavar="R",
    help="With --sim: frames a second; 0 for as many as are read.  "
    f"[default: {DEFAULT_RATE}, of a capture 0]",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="S",
    help="With --sim: which generated network.  [default: 0]",
)
@click.option(
    "--capture",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --sim: a recorded network instead of a generated one.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_PROCESSES_COUNT),
    default=2,
    show_default=True,
    help="Processes that prove frames.",
)
@click.option(
    "--compactors",
    type=click.IntRange(1, MAX_PROCESSES_COUNT),
    default=1,
    show_default=True,
    help="Processes that keep the latest state.",
)
@tracking_options
@kafka_options
@click.pass_context
def command(
    ctx: click.Context,
    *,
    relays: tuple[str, ...],
    cursor: str,
    is_simulated: bool,
    accounts: int | None,
    rate: int | None,
    seed: int | None,
    capture: Path | None,
    workers: int,
    compactors: int,
    tracking: Tracking,
    kafka: KafkaConfig,
) -> int:
    """Run the whole pipeline on this machine, with a screen that shows how it is.

    Starts a local Apache Kafka (or uses the one of --bootstrap-servers), creates the topics, and
    runs the bridge, the workers and the compact processes as children: they die with this
    process, and are started again when they die by themselves. The broker is stopped in the end
    only if it was started here. Where stdout is no terminal, a line every ten seconds says how
    far it is.

    \b
    Ctrl-C       stops what reads the upstream first, then stage by stage what follows; each
                 finishes the batch in its hands
    once more    ends all processes at once; nothing is lost by it

    With --sim the topics begin with "sim" unless --topic-prefix says otherwise.

    Exit code 0: it was stopped and everything ended cleanly. 1: a process died again and again
    (its last lines are shown), or did not end cleanly.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    if is_simulated == bool(relays):
        raise click.UsageError(_CHOICES)
    options = {"--accounts": accounts, "--rate": rate, "--seed": seed, "--capture": capture}
    network = network_of(_network_options(options)) if is_simulated else None
    if not is_simulated and any(value is not None for value in options.values()):
        raise click.UsageError(f"{', '.join(options)} go with --sim.\n\n{_CHOICES}")
    source: Source = Upstream(relays, cursor) if network is None else network
    if network is not None and is_default(ctx, "topic_prefix"):
        kafka = replace(kafka, topic_prefix=SIM_TOPIC_PREFIX)
    tracking.tracked()  # what is wrong with it is said here, and not in a child's log
    display = Display(Console())
    folder = state_directory() / "up" / kafka.topic_prefix
    folder.mkdir(parents=True, exist_ok=True)
    with stop_event() as stop, ExitStack() as stack:
        log = stack.enter_context((folder / "up.log").open("w", encoding="utf-8"))
        logs.configure(level=logging.INFO, stream=log)
        purpose = f"runs the pipeline {kafka.topic_prefix}"
        stack.enter_context(exclusive(folder / "lock", purpose=purpose, timeout_s=0))
        if is_default(ctx, "bootstrap_servers"):
            broker = LocalBroker(state_directory() / "kafka" / "data")
            servers = stack.enter_context(running_broker(broker, display.say))
            kafka = replace(kafka, bootstrap_servers=servers)
        admin.apply(admin.plan(kafka))
        forget_dead(kafka)
        display.say(
            f"topics {kafka.topic_prefix}.* at {kafka.bootstrap_servers}; logs in {folder}"
        )
        runner = stack.enter_context(Runner(folder, display.say))
        watch = stack.enter_context(Watch(kafka))
        stack.enter_context(display)

        def observe() -> None:
            if display.is_due:
                display.show(watch.look(supervised(runner.supervisor.states())), kafka)

        def stages(upstream: Upstream) -> list[Child]:
            return stages_of(
                kafka,
                upstream,
                Size(workers, compactors),
                _shared_options(ctx),
                tracking=tracking.arguments(),
            )

        failure = run(runner, source, stages, stop.is_set, observe)
        display.show(watch.look(supervised(runner.supervisor.states())), kafka)
        last_lines = [] if failure is None else runner.last_lines(failure.child)
    if failure is None:
        display.say("stopped")
        return 0
    click.echo(f"Error: {failure.child.name} {failure.reason}", err=True)
    if last_lines:
        click.echo(f"The end of {runner.log_of(failure.child)}:", err=True)
    for line in last_lines:
        click.echo(f"  {line}", err=True)
    return 1


def _network_options(given: Mapping[str, object]) -> tuple[str, ...]:
    """Returns the options of `standpipe sim` for those that were given, and our defaults."""
    options = {name: str(value) for name, value in given.items() if value is not None}
    if "--capture" not in options:
        options.setdefault("--accounts", str(DEFAULT_ACCOUNTS_COUNT))
        options.setdefault("--rate", str(DEFAULT_RATE))
    elif options.keys() & {"--accounts", "--seed"}:
        raise click.UsageError(f"--accounts and --seed do not go with --capture.\n\n{_CHOICES}")
    return tuple(part for option in options.items() for part in option)


def _shared_options(ctx: click.Context) -> tuple[str, ...]:
    """Returns the options before the command's name, for the children."""
    given = ctx.find_root().params
    config = () if given["config_path"] is None else ("--config", str(given["config_path"]))
    return (*config, "--verbose") if given["verbose"] else config
