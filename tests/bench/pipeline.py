"""Through a real broker: each stage alone and all together, as processes on this machine.

Frames of a generated network are prepared beforehand, so that what serves them only sends. Every
process is a real command. What counts is the middle of each run, from where a tenth of the frames
is through the first stage to where almost all are through the last: no start, no first look-up of
a key. The rate is by the clock and so depends on whoever else is on the machine; seconds of
processor hardly do, and are printed by process, the broker's too.
"""

import json
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import click
from bench import processors
from bench.broker import Broker, running_broker
from bench.delays import Delayed, DelayReader, delayed, in_words
from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # no explicit re-export
from support.judge import still_parked
from support.kafka import wait_until
from support.pipeline import Pipeline, Stage, running_pipeline

from pipelines.compact import service as compact
from pipelines.compact.accounts import Policy
from pipelines.config import KafkaConfig
from pipelines.kafka.clients import create_admin
from pipelines.kafka.reading import insist, read_between, readable_log_ends
from pipelines.kafka.topics import registry
from pipelines.process import start_child
from pipelines.sim.service import Addresses

PARTITIONS: Final = 4
# Their stream begins with them, since of who has a past nothing is in `latest.*` before a resync;
# so few, that their trees have several layers soon.
ACCOUNTS_COUNT: Final = 40
# Some seconds of work, and no more than the network prepares.
FRAMES_COUNT: Final = 20_000
LIVE_PER_S: Final = 350
# The middle of a run, as shares of its frames.
_BEGIN, _END = 0.1, 0.95
_SAMPLE_S = 0.05
_QUIET_S = 4.0
_TIMEOUT_S = 180.0
# Of the delay: the pace of an ordinary peak, and how long it is kept up before it counts.
PEAK_PER_S: Final = 600
_WARM_UP_S = 10
_DELAY_S = 20
_COLUMNS: Final = ("relay", "bridge", "explode", "compact", "broker")


class _Sample(NamedTuple):
    """A moment of a run.

    Attributes:
        at_s: when, by the clock.
        first: offsets that the first stage has done, transaction markers among them.
        last: likewise the last one.
        used: seconds of processor so far.
    """

    at_s: float
    first: int
    last: int
    used: processors.Used


class _Progress(NamedTuple):
    """How to see how far a stage is.

    Attributes:
        done: says how many offsets it has done.
        is_over: says whether it has nothing left to do.
    """

    done: Callable[[], int]
    is_over: Callable[[], bool]


class _Run:
    """One pipeline, of which stages are started, measured and stopped."""

    def __init__(self, broker: Broker, relay_pid: int, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.kafka = pipeline.kafka
        self._admin = create_admin(self.kafka)
        self._pids = {"relay": relay_pid}
        if broker.pid is not None:
            self._pids["broker"] = broker.pid

    def bridge(self) -> _Progress:
        """Looks at how far readers can read in `frames`."""
        return _Progress(lambda: self._end("frames"), lambda: True)

    def stage(self, name: str, topic: str) -> _Progress:
        """Looks at what a stage has committed of its input.

        Each partition ends in a marker that nobody can read.
        """
        return _Progress(
            lambda: self._position(name, topic),
            lambda: self._end(topic) - self._position(name, topic) <= PARTITIONS,
        )

    def is_shared(self, stage: str, count: int) -> bool:
        """Tells whether so many members have divided a stage's partitions among them."""
        group = self.kafka.group(stage)
        found = insist(
            lambda: self._admin.describe_consumer_groups([group])[group].result(_TIMEOUT_S)
        )
        return found.state == ConsumerGroupState.STABLE and len(found.members) == count

    def forget(self, stage: str) -> None:
        """Has a stage begin anew at its next start."""
        group = self.kafka.group(stage)
        self._admin.delete_consumer_groups([group])[group].result(_TIMEOUT_S)

    def measure(
        self,
        name: str,
        stages: Sequence[Stage],
        first: _Progress,
        last: _Progress | None = None,
        is_begun: Callable[[], bool] = lambda: True,
    ) -> None:
        """Prints a line about stages that were just started, and stops them.

        Args:
            name: of the line.
            stages: the processes.
            first: of the first stage among them.
            last: of the last one; None if there is only one.
            is_begun: says whether all of them are at work.
        """
        pids = [*self._pids.values(), *(stage.process.pid for stage in stages)]
        watched = (first, last or first)
        samples: list[_Sample] = []
        changed_s = time.monotonic()
        deadline_s = changed_s + _TIMEOUT_S
        # Who has nothing to do may have nothing left, or nothing yet: so some time has to pass.
        while (
            not samples
            or time.monotonic() - changed_s < _QUIET_S
            or not all(progress.is_over() for progress in watched)
        ):
            assert time.monotonic() < deadline_s, "\n".join(stage.log() for stage in stages)
            done = (watched[0].done(), watched[1].done())
            if done[0] and (not samples or done != samples[-1][1:3]) and is_begun():
                changed_s = time.monotonic()
                samples.append(_Sample(changed_s, *done, processors.used(pids)))
            time.sleep(_SAMPLE_S)
        for stage in stages:
            assert stage.stop() == 0, stage.log()
        self._print(name, stages, samples)

    def _print(self, name: str, stages: Sequence[Stage], samples: Sequence[_Sample]) -> None:
        *_, final = samples
        begin = next(s for s in samples if s.first >= _BEGIN * final.first)
        end = next(s for s in samples if s.last >= _END * final.last)
        frames = (end.last / final.last - begin.first / final.first) * FRAMES_COUNT
        taken_s = end.at_s - begin.at_s
        assert taken_s > 0, f"{name}: done before it could be looked at"
        cpu_s = {pid: end.used.by_pid[pid] - begin.used.by_pid[pid] for pid in end.used.by_pid}
        others = (end.used.machine - begin.used.machine - sum(cpu_s.values())) / taken_s
        by_name = {column: cpu_s[pid] for column, pid in self._pids.items()}
        for stage in stages:
            by_name[stage.name] = by_name.get(stage.name, 0.0) + cpu_s[stage.process.pid]
        cells = "".join(_cell(by_name.get(column), frames) for column in _COLUMNS)
        rate = frames / taken_s
        click.echo(f"{name:22}  {rate:8,.0f}  {rate / LIVE_PER_S:6.1f} |{cells}  |  {others:6.2f}")

    def _position(self, stage: str, topic: str) -> int:
        group = self.kafka.group(stage)
        request = ConsumerGroupTopicPartitions(
            group, [TopicPartition(*where) for where in self._partitions(topic)]
        )
        found = insist(
            lambda: self._admin.list_consumer_group_offsets([request])[group].result(_TIMEOUT_S)
        )
        return sum(max(where.offset, 0) for where in found.topic_partitions)

    def _end(self, topic: str) -> int:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # has no annotations
        futures = self._admin.list_offsets(
            {TopicPartition(*where): latest for where in self._partitions(topic)},
            isolation_level=IsolationLevel.READ_COMMITTED,
        )
        return sum(future.result(_TIMEOUT_S).offset for future in futures.values())

    def _partitions(self, topic: str) -> list[tuple[str, int]]:
        return [(self.kafka.topic(topic), partition) for partition in range(PARTITIONS)]


def run(_rounds: int) -> None:
    """Prints the table, the delay, and how long a lost store takes."""
    with running_broker() as broker:
        with network(FRAMES_COUNT, rate=0) as (relay, addresses):
            _wait_for_frames(addresses)
            click.echo(
                f"Pipeline through the broker, {PARTITIONS} partitions: {FRAMES_COUNT:,} frames "
                f"of {ACCOUNTS_COUNT} new accounts, prepared beforehand;\n"
                f"{processors.load()} before it. Seconds of processor for 1,000 "
                "frames, and how many processors others used"
            )
            columns = "".join(f"{column:>9}" for column in _COLUMNS)
            click.echo(f"{'':22}  frames/s  x live |{columns}  |  others")
            with _pipeline(broker, relay, addresses) as each:
                _measure_alone(each)
            with _pipeline(broker, relay, addresses) as together:
                _measure_together(together)
        with (
            network((_WARM_UP_S + _DELAY_S) * PEAK_PER_S, rate=PEAK_PER_S) as (relay, addresses),
            _pipeline(broker, relay, addresses) as paced,
        ):
            _measure_delay(paced)


def _measure_alone(each: _Run) -> None:
    pipeline, kafka = each.pipeline, each.kafka
    each.measure("bridge alone", [pipeline.start_bridge()], each.bridge())
    _assert_count(kafka, "frames")
    explode = each.stage("explode", "frames")
    each.measure("explode, 1 process", [pipeline.start_worker("0")], explode)
    _assert_count(kafka, "events")
    each.measure("compact alone", [pipeline.start_compact()], each.stage("compact", "events"))
    rebuilt = _rebuild(kafka)
    each.forget("explode")
    each.measure(
        "explode, 2 processes",
        [pipeline.start_worker(slot) for slot in "01"],
        explode,
        is_begun=lambda: each.is_shared("explode", 2),
    )
    click.echo(rebuilt)


def _measure_together(together: _Run) -> None:
    explode, compact_ = together.stage("explode", "frames"), together.stage("compact", "events")
    # A frame may wait for a key after the frames behind it are done.
    last = _Progress(
        compact_.done,
        lambda: explode.is_over() and compact_.is_over() and not still_parked(together.kafka),
    )
    together.measure("all together", _started(together), together.bridge(), last)
    _assert_count(together.kafka, "events")


def _started(each: _Run) -> list[Stage]:
    """Starts one process of each stage, the bridge once the others have their partitions."""
    pipeline = each.pipeline
    stages = [pipeline.start_compact(), pipeline.start_worker("0")]
    for stage in stages:
        wait_until(partial(each.is_shared, stage.name, 1), stage.name)
    return [*stages, pipeline.start_bridge()]


def _measure_delay(paced: _Run) -> None:
    """Prints how old records are when a reader of committed ones gets them."""
    kafka = paced.kafka
    topics = [kafka.topic(name) for name in registry().specs["records"].topics]
    stages = _started(paced)
    reader = DelayReader(kafka, topics, PARTITIONS)
    first_us: int | None = None
    read: list[Delayed] = []
    last_s = time.monotonic()
    while not read or time.monotonic() - last_s < _QUIET_S:
        for message, read_us in reader.poll():
            last_s, record = time.monotonic(), delayed(message, read_us)
            first_us = record.received_us if first_us is None else first_us
            if record.received_us - first_us >= _WARM_UP_S * 1_000_000:
                read.append(record)
    reader.close()
    for stage in stages:
        assert stage.stop() == 0, stage.log()
    click.echo(
        f"at {PEAK_PER_S} events/s, all together, from the socket to a reader of committed "
        f"records: {in_words(read)} ({len(read):,} records; {processors.load()})"
    )


def _rebuild(kafka: KafkaConfig) -> str:
    """Makes the stores of compact anew from the topics; returns what there is to say of it."""
    with tempfile.TemporaryDirectory(prefix="standpipe-bench-") as folder:
        stage = compact.create_stage(kafka, Path(folder), Policy(is_repairing=False))
        cpu_s, started_s = time.process_time(), time.perf_counter()
        for _ in stage.restore(range(PARTITIONS)):
            pass
        taken_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
        synchronized_count = stage.groups()["repos"]["synchronized"]
        stage.close()
    assert synchronized_count == ACCOUNTS_COUNT
    return (
        f"a lost store of compact is rebuilt in {taken_s:.2f} s ({cpu_s:.2f} s of processor), "
        f"{FRAMES_COUNT / taken_s:,.0f} events/s"
    )


@contextmanager
def network(
    events_count: int, *, rate: int, large_count: int = 0, seed: int = 0
) -> Iterator[tuple[int, Addresses]]:
    """Serves a generated network; yields its process id and its addresses.

    Args:
        events_count: frames that it has.
        rate: frames a second; 0 for as many as are taken.
        large_count: records of one more account, which has a past; 0 for none.
        seed: of the accounts, of which no other network has one.
    """
    large = ["--large", str(large_count)] if large_count else []
    child = start_child(
        [
            *("sim", "--json", "--rate", str(rate), "--events", str(events_count)),
            *("--accounts", str(ACCOUNTS_COUNT), "--seed", str(seed), *large),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        yield child.pid, Addresses(**json.loads(child.stdout.readline()))
    finally:
        child.terminate()
        child.wait()


def _wait_for_frames(addresses: Addresses) -> None:
    def are_prepared() -> bool:
        with urllib.request.urlopen(f"{addresses.plc}/sim/status") as answer:
            prepared: int = json.load(answer)["frames_prepared"]
        return prepared >= FRAMES_COUNT

    wait_until(are_prepared, "prepared frames", _TIMEOUT_S)


@contextmanager
def _pipeline(broker: Broker, relay_pid: int, addresses: Addresses) -> Iterator[_Run]:
    kafka = KafkaConfig(broker.bootstrap_servers, f"bench-{uuid.uuid4().hex[:8]}")
    with (
        tempfile.TemporaryDirectory(prefix="standpipe-bench-") as folder,
        running_pipeline(kafka, addresses, Path(folder), PARTITIONS) as pipeline,
    ):
        yield _Run(broker, relay_pid, pipeline)


def _assert_count(kafka: KafkaConfig, topic: str) -> None:
    """Checks that a stage did all of its work: a topic has a message for each frame."""
    partitions = [(kafka.topic(topic), number) for number in range(PARTITIONS)]
    # A commit returns before its markers are written everywhere.
    ends = readable_log_ends(kafka, partitions)
    count = sum(1 for _ in read_between(kafka, dict.fromkeys(partitions, 0), ends))
    assert count == FRAMES_COUNT, f"{count} messages in {topic}"


def _cell(cpu_s: float | None, frames: float) -> str:
    return f"{'':9}" if cpu_s is None else f"{cpu_s / frames * 1_000:9.3f}"
