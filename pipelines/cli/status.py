"""`standpipe status`: one look at a running pipeline, from Kafka alone."""

import contextlib
import json
import logging

import click
from rich.console import Console

from pipelines import logs
from pipelines.cli.options import kafka_options
from pipelines.config import KafkaConfig
from pipelines.process import stop_event
from pipelines.status.display import SCREEN_INTERVAL_S, Display, title_of
from pipelines.status.plain import as_json, lines
from pipelines.status.screen import screen
from pipelines.status.watch import StatusReader, Watch, forget


@click.command()
@click.option("--once", is_flag=True, help="One look, then end; also if stdout is no terminal.")
@click.option("--json", "as_object", is_flag=True, help="One look as a JSON object.")
@click.option(
    "--forget",
    "name",
    metavar="STAGE.SLOT",
    help="Forget a process that was killed and will not run again, and end.",
)
@kafka_options
def command(*, once: bool, as_object: bool, name: str | None, kafka: KafkaConfig) -> int:
    """Show a running pipeline: who runs, how fast, how far behind its input.

    It needs nothing but Kafka: each process writes a sign of life every two seconds, and how far
    a stage is behind follows from the positions it committed, also when it is dead. Counts are
    those since each process started. On a terminal the screen goes on until Ctrl-C.

    \b
    behind   messages that wait to be read; ~ marks an estimate
    lag      age of the oldest of them
    refused  frames that were proven bad, by reason; they are in the topic quarantine
    parked   frames that wait because nobody can tell their account's key now

    Exit code 0: all is well. 1: a process failed or is silent, or nothing runs.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    if name is not None:
        forget(kafka, [name])
        return 0
    console = Console()
    if console.is_terminal and not once and not as_object:
        return _follow(kafka, console)
    with contextlib.closing(StatusReader(kafka)) as reader:
        reader.refresh()
        overview = reader.look()
    if as_object:
        click.echo(json.dumps(as_json(overview), ensure_ascii=False))
    elif console.is_terminal:
        console.print(screen(overview, title_of(kafka), console.width))
    else:
        for line in lines(overview):
            click.echo(line)
    return 1 if overview.problems else 0


def _follow(kafka: KafkaConfig, console: Console) -> int:
    # What goes wrong is on the screen; log lines in between would tear it.
    logs.configure(level=logging.CRITICAL)
    display = Display(console)
    with stop_event() as stop, Watch(kafka) as watch, display:
        while True:
            overview = watch.look()
            display.show(overview, kafka)
            if stop.wait(SCREEN_INTERVAL_S):
                return 1 if overview.problems else 0
