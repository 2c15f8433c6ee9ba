"""`standpipe demo`: half a minute of a generated network through everything, then the proof."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import click
from rich.console import Console

from pipelines import logs
from pipelines.cli.options import is_default, kafka_options
from pipelines.config import KafkaConfig, state_directory
from pipelines.demo.checks import check_all, is_through
from pipelines.demo.outcome import read_outcome
from pipelines.demo.report import show_check, show_outcome
from pipelines.demo.truth import Truth, load_truth
from pipelines.errors import TransientError
from pipelines.kafka import admin
from pipelines.kafka.broker import LocalBroker
from pipelines.process import stop_event
from pipelines.status.display import Display
from pipelines.status.overview import Overview
from pipelines.status.watch import Watch
from pipelines.up.children import (
    Size,
    addresses_in,
    network_of,
    stages_of,
    supervised,
)
from pipelines.up.cluster import running_broker
from pipelines.up.runner import Runner
from pipelines.up.session import run

# Not the ports of `standpipe kafka start`, so that a broker in use is left alone.
BROKER_PORT = 29092
CONTROLLER_PORT = 29093
ACCOUNTS_COUNT = 60
FRAMES_COUNT = 4_500
RATE = 150
SEED = 20_260_704
SIZE = Size(workers_count=2, compactors_count=1)
# On a slow machine the stages fall behind and catch up; beyond this they hang.
DEADLINE_S = 300.0
# When every event is through, the demo is over: deletions do not wait to be confirmed.
_AT_ONCE = ("--purge-after", "0")
SAMPLE_COLLECTION = "app.bsky.feed.post"


@click.command()
@kafka_options
@click.pass_context
def command(ctx: click.Context, *, kafka: KafkaConfig) -> int:
    """Run a generated network through the whole pipeline, and prove what comes out.

    Starts a local Apache Kafka of its own (or uses the one of --bootstrap-servers), creates
    topics of its own, and runs for half a minute what `standpipe up --sim` runs. Then it stops
    everything and compares the topics with what really happened in the network: frames,
    accounts, every record, and the roots of all repositories.

    Exit code 0 only if every check held.
    """
    logs.configure(level=logging.WARNING)
    console = Console(soft_wrap=True)
    started_s = time.monotonic()
    with ExitStack() as stack:
        stop = stack.enter_context(stop_event())
        display = Display(console)
        prefix = f"demo-{int(time.time())}"
        if is_default(ctx, "bootstrap_servers"):
            servers = stack.enter_context(_fresh_broker(display))
            kafka = KafkaConfig(servers, prefix)
        else:
            kafka = replace(kafka, topic_prefix=prefix)
            display.say(f"the topics {prefix}.* stay on {kafka.bootstrap_servers}")
        truth = _run(kafka, display, stop.is_set)
        outcome = read_outcome(kafka, SAMPLE_COLLECTION)
    show_outcome(console, outcome)
    checks = check_all(outcome, truth, FRAMES_COUNT)
    for check in checks:
        show_check(console, check)
    seconds = time.monotonic() - started_s
    console.print(f"{seconds:.0f} s, with the start of the broker; everything is stopped again")
    return 1 if any(check.problems for check in checks) else 0


@contextmanager
def _fresh_broker(display: Display) -> Iterator[str]:
    """Runs a broker without data for as long as the block."""
    directory = state_directory() / "demo" / "kafka"
    broker = LocalBroker(directory, port=BROKER_PORT, controller_port=CONTROLLER_PORT)
    broker.stop()  # that of a demo that was killed
    shutil.rmtree(directory, ignore_errors=True)
    with running_broker(broker, display.say) as servers:
        yield servers


def _run(kafka: KafkaConfig, display: Display, is_interrupted: Callable[[], bool]) -> Truth:
    """Runs the pipeline until every frame has gone through all of it.

    Returns:
        What really happened in the network.
    """
    admin.apply(admin.plan(kafka))
    folder = state_directory() / "demo" / "logs"
    shutil.rmtree(folder, ignore_errors=True)
    options = {"--accounts": ACCOUNTS_COUNT, "--rate": RATE, "--seed": SEED}
    options |= {"--events": FRAMES_COUNT}
    network = network_of(tuple(str(part) for option in options.items() for part in option))
    display.say(
        f"{FRAMES_COUNT:,} frames of {ACCOUNTS_COUNT} accounts, {RATE} a second; logs in {folder}"
    )
    truths: list[Truth] = []
    deadline_s = time.monotonic() + DEADLINE_S
    with Runner(folder, display.say) as runner, Watch(kafka) as watch, display:

        def overview() -> Overview:
            return watch.look(supervised(runner.supervisor.states()))

        def should_stop() -> bool:
            if time.monotonic() > deadline_s:
                raise TransientError(
                    f"not every frame is through after {DEADLINE_S:.0f} s; the logs in {folder} "
                    "say why"
                )
            if is_interrupted():
                return True
            if not truths and is_through(overview(), FRAMES_COUNT):
                addresses = addresses_in(runner.log_of(network).read_text(encoding="utf-8"))
                assert addresses is not None
                truths.append(load_truth(addresses.plc))
            return bool(truths)

        def observe() -> None:
            if display.is_due:
                display.show(overview(), kafka)

        failure = run(
            runner,
            network,
            lambda upstream: stages_of(kafka, upstream, SIZE, compact=_AT_ONCE),
            should_stop,
            observe,
        )
    if failure is not None:
        raise TransientError(
            f"{failure.child.name} {failure.reason}; {runner.log_of(failure.child)} says why"
        )
    if not truths:
        raise click.Abort
    return truths[0]
