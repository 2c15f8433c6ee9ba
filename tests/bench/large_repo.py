"""A large repository is fetched and applied, while others' events go through the same partition.

Every process is a real command. The events come from one network, the repository is served by
another one, as by a server elsewhere; all is in one partition. So what is measured is what a
reader of the other repositories notices of it, what the stages need of memory, and what compact
keeps on the disk.
"""

import json
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import click
from bench import processors
from bench.broker import running_broker
from bench.delays import Delayed, DelayReader, delayed, in_words
from bench.pipeline import LIVE_PER_S, network
from support.latest import read_stores
from support.memory import peak_bytes
from support.pipeline import Pipeline, Stage, running_pipeline
from support.resyncs import ask

from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.kafka.topics import registry
from pipelines.repair.manifests import Snapshot, parse_manifest
from pipelines.sim.service import Addresses

PARTITIONS: Final = 1
# The second tells whether memory grows with the repository.
RECORDS_COUNTS: Final = (30_000, 300_000)
# More than there is time for.
_EVENTS_COUNT: Final = 600 * LIVE_PER_S
_WARM_UP_S: Final = 10
_ALONE_S: Final = 10
_TIMEOUT_S: Final = 200.0
_MB: Final = 1e6


class _Phase(StrEnum):
    """What goes on while others' records are read."""

    STARTING = "starting"
    ALONE = "nothing else goes on"
    FETCHING = "it is fetched, proven and published"
    APPLYING = "it is applied"
    DONE = "done"


@dataclass
class _Watch:
    """Reads everything that compact writes, and the answers that it gets.

    Attributes:
        kafka: the cluster.
        did: the large repository.
        phase: what goes on now.
        read: others' records that were read, by what went on then.
        taken_s: how long each phase was.
        records_count: those of the large repository, as its manifest says; None before.
    """

    kafka: KafkaConfig
    did: Did
    phase: _Phase = _Phase.STARTING
    read: dict[_Phase, list[Delayed]] = field(default_factory=lambda: {p: [] for p in _Phase})
    taken_s: dict[_Phase, float] = field(default_factory=dict)
    records_count: int | None = None

    def __post_init__(self) -> None:
        """Begins at the beginning of all topics."""
        self._repos, self._snapshots = self.kafka.topic("repos"), self.kafka.topic("snapshots")
        latest = [self.kafka.topic(name) for name in registry().specs["latest"].topics]
        self._reader = DelayReader(self.kafka, [self._repos, self._snapshots, *latest], PARTITIONS)
        self._is_applied = False

    def run(self, phase: _Phase, is_over: Callable[[float], bool]) -> None:
        """Reads until a phase is over.

        Args:
            phase: what goes on.
            is_over: told how many seconds it has taken.
        """
        self.phase = phase
        started_s = time.monotonic()
        while not is_over(time.monotonic() - started_s):
            assert time.monotonic() - started_s < _TIMEOUT_S, phase
            self._read()
        self.taken_s[phase] = time.monotonic() - started_s

    def is_answered(self, _: float) -> bool:
        """Tells whether the repository's manifest is there."""
        return self.records_count is not None

    def is_applied(self, _: float) -> bool:
        """Tells whether the repository is synchronized."""
        return self._is_applied

    def close(self) -> None:
        """Ends reading."""
        self._reader.close()

    def _read(self) -> None:
        for message, read_us in self._reader.poll():
            headers = dict(message.headers)
            is_large = headers["did"].decode() == self.did
            if message.topic == self._snapshots:
                if is_large:
                    self.records_count = _records_count(message.value)
            elif message.topic == self._repos:
                self._is_applied |= is_large and headers["sync"] == b"synchronized"
            elif message.value is not None and not is_large:
                self.read[self.phase].append(delayed(message, read_us))


def run(_rounds: int) -> None:
    """Prints what others notice of a large repository, and what it takes."""
    click.echo(
        f"a large repository, while {LIVE_PER_S} events/s of others go through the same "
        "partition, each stage a process:\nfrom the socket to a reader of committed latest.*"
    )
    with running_broker() as broker:
        for records_count in RECORDS_COUNTS:
            kafka = KafkaConfig(broker.bootstrap_servers, f"bench-{uuid.uuid4().hex[:8]}")
            with (
                network(1, rate=1, large_count=records_count, seed=1) as (_, elsewhere),
                network(_EVENTS_COUNT, rate=LIVE_PER_S) as (_, addresses),
                tempfile.TemporaryDirectory(prefix="standpipe-bench-") as folder,
                running_pipeline(kafka, addresses, Path(folder), PARTITIONS) as pipeline,
            ):
                _measure(pipeline, elsewhere, Path(folder))


def _measure(pipeline: Pipeline, elsewhere: Addresses, folder: Path) -> None:
    did = _only_account(elsewhere)
    (folder / "elsewhere").mkdir()
    fetching = Pipeline(pipeline.kafka, elsewhere, folder / "elsewhere")
    compact, resync = pipeline.start_compact(), fetching.start_resync()
    stages = [compact, resync, pipeline.start_worker("0"), pipeline.start_bridge()]
    watch = _Watch(pipeline.kafka, did)
    try:
        watch.run(_Phase.STARTING, lambda _: bool(watch.read[_Phase.STARTING]))
        watch.run(_Phase.STARTING, lambda taken_s: taken_s >= _WARM_UP_S)
        watch.run(_Phase.ALONE, lambda taken_s: taken_s >= _ALONE_S)
        before = [peak_bytes(stage.process.pid) for stage in (resync, compact)]
        ask(pipeline.kafka, did, partitions=PARTITIONS)
        watch.run(_Phase.FETCHING, watch.is_answered)
        watch.run(_Phase.APPLYING, watch.is_applied)
        after = [peak_bytes(stage.process.pid) for stage in (resync, compact)]
    finally:
        watch.close()
        _stop(stages)
    assert watch.records_count is not None
    click.echo(f"  {watch.records_count:,} records ({processors.load()})")
    for phase in (_Phase.ALONE, _Phase.FETCHING, _Phase.APPLYING):
        read, taken_s = watch.read[phase], watch.taken_s[phase]
        rate = "" if phase is _Phase.ALONE else f", {watch.records_count / taken_s:,.0f} records/s"
        click.echo(f"    {in_words(read)} of {len(read):,}: {phase}, {taken_s:.1f} s{rate}")
    click.echo(
        "    most memory (RSS): "
        + ", ".join(
            f"{name} {most / _MB:.0f} MB, {earlier / _MB:.0f} before"
            for name, earlier, most in zip(("resync", "compact"), before, after, strict=True)
        )
    )
    store = pipeline.store_folder("0")
    size_bytes = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    stored = read_stores(store, PARTITIONS)
    assert len(stored[did].paths) == watch.records_count
    total = sum(len(repo.paths) for repo in stored.values())
    click.echo(f"    store: {size_bytes / total:.0f} bytes on disk for each of {total:,} records")


def _only_account(addresses: Addresses) -> Did:
    """Returns the account that exists before the first event."""
    base = addresses.relay.replace("ws:", "http:")
    with urllib.request.urlopen(f"{base}/xrpc/com.atproto.sync.listRepos") as answer:
        [entry] = json.load(answer)["repos"]
    return Did(entry["did"])


def _records_count(value: bytes | None) -> int:
    manifest = parse_manifest(value or b"")
    assert isinstance(manifest, Snapshot)
    return manifest.records_count


def _stop(stages: list[Stage]) -> None:
    for stage in stages:
        assert stage.stop() == 0, stage.log()
