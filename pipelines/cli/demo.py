"""`standpipe demo`: the pipeline on a captured network, from the broker's start to its stop."""

import json
import logging
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.json import JSON
from rich.table import Table

from pipelines import logs
from pipelines.captures import read_frames
from pipelines.cli.options import kafka_options
from pipelines.config import DEFAULT_BOOTSTRAP_SERVERS, KafkaConfig, state_directory
from pipelines.errors import TransientError
from pipelines.identity.offline import OfflineKeys
from pipelines.kafka import admin
from pipelines.kafka.broker import LocalBroker
from pipelines.kafka.reading import read_to_end
from pipelines.kafka.topics import registry
from pipelines.process import start_child, stop_event
from pipelines.report import FrameReport, Outcome, report_frames
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer

# Not the ports of `standpipe kafka start`, so that a broker in use is left alone.
BROKER_PORT = 29092
CONTROLLER_PORT = 29093
WORKERS_COUNT = 2
DEADLINE_S = 120.0
SAMPLE_COLLECTION = "app.bsky.feed.post"
_POLL_S = 0.5

Frame = tuple[int, int]  # partition and offset in `frames`


@dataclass(slots=True)
class _Outcome:
    """What the topics hold."""

    frames: dict[Frame, bytes] = field(default_factory=dict)
    events: dict[Frame, dict[str, Any]] = field(default_factory=dict)
    quarantined: dict[Frame, str] = field(default_factory=dict)
    records: Counter[str] = field(default_factory=Counter)
    sample: dict[str, Any] | None = None
    twice_count: int = 0


@click.command()
@click.option(
    "--capture",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("tests/data/capture"),
    show_default=True,
    help="The captured network to run on.",
)
@kafka_options
def command(folder: Path, kafka: KafkaConfig) -> int:
    """Run the pipeline on a small captured network and show what comes out.

    Starts a local Apache Kafka of its own (or uses the one of --bootstrap-servers), creates the
    topics, serves the captured network on loopback, runs the bridge and two workers, and stops
    everything it started. Exit code 0 only if every frame arrived once and was judged as
    `standpipe verify` judges it.
    """
    logs.configure(level=logging.WARNING)
    console = Console(soft_wrap=True)
    started_s = time.monotonic()
    with stop_event() as stop, ExitStack() as stack:
        kafka = stack.enter_context(_cluster(kafka, console))
        admin.apply(admin.plan(kafka))
        console.print(f"topics    [bold]{kafka.topic_prefix}.*[/] created from schemas/")

        frames = list(read_frames(folder / "frames.bin"))
        sim = stack.enter_context(SimServer(load_network(folder)))
        addresses = sim.addresses
        console.print(f"upstream  {len(frames)} captured frames at {addresses.relay}")
        logs_folder = state_directory() / "demo" / "logs"
        bridge = ["bridge", "--relay", addresses.relay, "--cursor", "oldest"]
        worker = ["explode", "--plc-url", addresses.plc, "--did-web-url", addresses.did_web]
        workers = [[*worker, "--slot", str(slot)] for slot in range(WORKERS_COUNT)]
        stack.enter_context(_stages(kafka, [bridge, *workers], logs_folder))
        console.print(f"stages    bridge and {WORKERS_COUNT} workers run; logs in {logs_folder}")
        outcome = _wait_for(kafka, len(frames), stop.is_set)
        elapsed_s = time.monotonic() - started_s
        reports = list(report_frames(frames, OfflineKeys.load(folder / "identities.jsonl")))
    _show(console, reports, outcome)
    problems = _check(frames, reports, outcome)
    for problem in problems:
        console.print(f"[red]FAILED[/]  {problem}")
    if not problems:
        console.print(
            f"[green]OK[/]  {len(frames)} frames in, each judged once and as "
            f"`standpipe verify` judges it ({elapsed_s:.0f} s, broker's start included)"
        )
    return 1 if problems else 0


@contextmanager
def _cluster(kafka: KafkaConfig, console: Console) -> Iterator[KafkaConfig]:
    """Yields a cluster with topics of our own: the given one, or a fresh local broker."""
    prefix = f"demo-{int(time.time())}"
    if kafka.bootstrap_servers != DEFAULT_BOOTSTRAP_SERVERS:
        console.print(f"broker    {kafka.bootstrap_servers} (yours; the demo's topics stay on it)")
        yield KafkaConfig(kafka.bootstrap_servers, prefix, kafka.options)
        return
    directory = state_directory() / "demo" / "kafka"
    broker = LocalBroker(directory, port=BROKER_PORT, controller_port=CONTROLLER_PORT)
    broker.stop()
    shutil.rmtree(directory, ignore_errors=True)
    broker.start()
    try:
        console.print(f"broker    Apache Kafka at {broker.bootstrap_servers}")
        yield KafkaConfig(broker.bootstrap_servers, prefix)
    finally:
        broker.stop()


@contextmanager
def _stages(
    kafka: KafkaConfig, commands: Sequence[Sequence[str]], logs_folder: Path
) -> Iterator[None]:
    """Runs stages as children, and stops them in the end."""
    logs_folder.mkdir(parents=True, exist_ok=True)
    cluster = [
        "--bootstrap-servers",
        kafka.bootstrap_servers,
        "--topic-prefix",
        kafka.topic_prefix,
    ]
    children: list[subprocess.Popen[bytes]] = []
    with ExitStack() as files:
        try:
            for number, arguments in enumerate(commands):
                path = logs_folder / f"{number}-{arguments[0]}.log"
                log = files.enter_context(path.open("wb"))
                children.append(start_child([*arguments, *cluster], stdout=log, stderr=log))
            yield
        finally:
            for child in children:
                child.terminate()
            for child in children:
                try:
                    child.wait(20)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


def _wait_for(kafka: KafkaConfig, frames_count: int, should_stop: Callable[[], bool]) -> _Outcome:
    """Reads the topics until every frame has been judged."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        outcome = _read(kafka)
        judged_count = len(outcome.events.keys() | outcome.quarantined.keys())
        if judged_count >= frames_count:
            # Again, now that all is there: the topics were not read at one moment.
            return _read(kafka)
        if should_stop():
            raise click.Abort
        if time.monotonic() > deadline_s:
            raise TransientError(
                f"after {DEADLINE_S:.0f} s only {judged_count} of {frames_count} frames are "
                f"judged; the stages' logs in {state_directory() / 'demo' / 'logs'} say why"
            )
        time.sleep(_POLL_S)


def _read(kafka: KafkaConfig) -> _Outcome:
    outcome = _Outcome()
    records = {kafka.topic(topic) for topic in registry().specs["records"].topics}
    frames, events, quarantine = map(kafka.topic, ("frames", "events", "quarantine"))
    for message in read_to_end(kafka, [*records, events, quarantine, frames]):
        value = message.value or b""
        if message.topic == events:
            event = json.loads(value)
            frame = (event["frame_partition"], event["frame_offset"])
            outcome.twice_count += frame in outcome.events
            outcome.events[frame] = event
        elif message.topic == frames:
            outcome.frames[message.partition, message.offset] = value
        elif message.topic == quarantine:
            headers = dict(message.headers)
            frame = (int(headers["q.partition"]), int(headers["q.offset"]))
            outcome.quarantined[frame] = headers["q.reason"].decode()
        else:
            collection = dict(message.headers)["collection"].decode()
            outcome.records[collection] += 1
            if collection == SAMPLE_COLLECTION:
                outcome.sample = json.loads(value)
    return outcome


def _show(console: Console, reports: Sequence[FrameReport], outcome: _Outcome) -> None:
    kinds = Counter(report.kind for report in reports)
    console.print(_table("what went in", ("frames", "kind"), kinds))
    verdicts = Counter(
        event["kind"] if event["kind"] != "refused" else f"refused: {event['reason']}"
        for event in outcome.events.values()
    )
    console.print(_table("what was proven, and what was refused", ("frames", "event"), verdicts))
    console.print(_table("records", ("messages", "collection"), outcome.records))
    if outcome.sample is not None:
        console.print("a record message:")
        console.print(JSON(json.dumps(outcome.sample)))


def _table(title: str, columns: tuple[str, str], counts: Counter[Any]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(columns[0], justify="right")
    table.add_column(columns[1])
    for name, count in counts.most_common():
        table.add_row(str(count), str(name))
    return table


def _check(
    frames: Sequence[bytes], reports: Sequence[FrameReport], outcome: _Outcome
) -> list[str]:
    problems = []
    if sorted(outcome.frames.values()) != sorted(frames):
        problems.append("the frames in Kafka are not those of the capture")
    if outcome.twice_count:
        problems.append(f"{outcome.twice_count} frames have two events")
    report_of = dict(zip(frames, reports, strict=True))
    for where, frame in outcome.frames.items():
        report = report_of.get(frame)
        expected = None if report is None else report.reason
        if report is not None and report.verdict is Outcome.REFUSED:
            if outcome.quarantined.get(where) != expected:
                problems.append(f"frame {report.n} is not in quarantine as {expected}")
        elif where in outcome.quarantined or where not in outcome.events:
            problems.append(f"the frame at {where} has no event")
    if not outcome.records:
        problems.append("there is no record")
    return problems
