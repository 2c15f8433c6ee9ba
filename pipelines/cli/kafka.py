"""`standpipe kafka`: Apache Kafka on this machine, for trying things out and for the tests."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, assert_never

import click
import rich.console

from pipelines.config import state_directory
from pipelines.kafka.broker import (
    BrokerStatus,
    LocalBroker,
    PortOccupied,
    Running,
    StalePid,
    Stopped,
    Unresponsive,
)
from pipelines.kafka.jars import Announce, KafkaJars

_DEFAULT_PORT = 9092


def _data_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="The broker's folder: data, settings, logs. Default: .standpipe/kafka/data, or "
        "kafka/data in STANDPIPE_HOME.",
    )(function)


def _port_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--port",
        type=click.IntRange(1, 65534),
        default=_DEFAULT_PORT,
        show_default=True,
        help="Port on 127.0.0.1 for clients. The broker takes the port after it, too.",
    )(function)


@click.group("kafka")
def command() -> None:
    """Run Apache Kafka on this machine: a single broker on 127.0.0.1.

    It needs Java 17 and, the first time, Maven. The broker runs in the background until it is
    stopped, and its data stays. Every other command finds it at its default --bootstrap-servers;
    to use another cluster, give them that option and leave this command alone.
    """


@command.command()
@_port_option
@_data_option
@click.option(
    "--timeout-s",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    help="How long to wait for the broker to answer, once Kafka is here.",
)
def start(port: int, data: Path | None, timeout_s: float) -> None:
    """Start the broker and return once it answers.

    The first start fetches Kafka's jars. If the broker runs already, nothing happens.
    """
    broker = _broker(port, data)
    with _progress("Kafka is starting") as announce:
        broker.start(timeout_s=timeout_s, announce=announce)
    _show(broker, broker.status())


@command.command()
@_data_option
def stop(data: Path | None) -> None:
    """Stop the broker; its data stays."""
    broker = _broker(_DEFAULT_PORT, data)
    with _progress("Kafka is stopping"):
        was_running = broker.stop()
    state = "has stopped" if was_running else "was not running"
    click.echo(f"Kafka {state}. Its data is in {broker.directory}.")


@command.command()
@_port_option
@_data_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def status(port: int, data: Path | None, *, as_json: bool) -> int:
    """Say whether the broker runs, where, and where its log is.

    Exits with 0 if it runs and answers, else with 1.
    """
    broker = _broker(port, data)
    found = broker.status()
    if as_json:
        fields = {"status": found.kind, **dataclasses.asdict(found)}
        fields |= {"directory": str(broker.directory), "log_file": str(broker.log_file)}
        click.echo(json.dumps(fields))
    else:
        _show(broker, found)
    return 0 if isinstance(found, Running) else 1


@command.command()
def fetch() -> None:
    """Fetch Kafka's jars, as the first start does."""
    jars = KafkaJars.default()
    with _progress("Fetching") as announce:
        jars.fetch(announce=announce)
    click.echo(f"Kafka's jars are in {jars.folder}.")


def _broker(port: int, data: Path | None) -> LocalBroker:
    return LocalBroker(data or state_directory() / "kafka" / "data", port, port + 1)


@contextlib.contextmanager
def _progress(activity: str) -> Iterator[Announce]:
    """Shows a spinner while the block runs, if stderr is a terminal; announcements always."""
    console = rich.console.Console(stderr=True)
    with console.status(f"{activity} …"):
        yield lambda sentence: console.out(f"{sentence} …", highlight=False)


def _show(broker: LocalBroker, found: BrokerStatus) -> None:
    click.echo(_describe(found))
    click.echo(f"Folder: {broker.directory}")
    click.echo(f"Log:    {broker.log_file}")


def _describe(found: BrokerStatus) -> str:
    match found:
        case Running(pid, servers):
            return f"Kafka runs on {servers} (pid {pid})."
        case Unresponsive(pid, servers):
            return (
                f"Kafka is there (pid {pid}) but does not answer on {servers}: it is starting, or "
                "stuck; the log tells, and 'standpipe kafka stop' ends it."
            )
        case Stopped():
            return "Kafka is stopped: 'standpipe kafka start' starts it."
        case StalePid(pid, program):
            now = f", which is {program} now" if program else ""
            return (
                f"Kafka ended without a stop (it was pid {pid}{now}): 'standpipe kafka start' "
                "continues from its data."
            )
        case PortOccupied(port, is_kafka):
            who = (
                "a Kafka broker that was not started from this folder"
                if is_kafka
                else "another program"
            )
            return (
                f"Kafka is stopped, and port {port} is taken by {who}: stop that, or choose "
                "another --port."
            )
        case _:
            assert_never(found)
