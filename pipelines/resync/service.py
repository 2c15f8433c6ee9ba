"""Resync as a process: requests in, proven repositories out."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yarl import URL

from pipelines.atproto.repo import DEFAULT_LIMITS as REPO_LIMITS
from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.identity.fetching import Fetcher, FetchLimits, Guard, origin_of
from pipelines.identity.lookups import DidResolver
from pipelines.identity.pace import PaceLimits
from pipelines.identity.streams import StreamLimits
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.beat import TOPIC as STATUS
from pipelines.kafka.counts import LoopCounts
from pipelines.kafka.heartbeat import heartbeat
from pipelines.kafka.loop import TransactionalLoop, run_restarting
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.reading import read_between, readable_log_ends
from pipelines.resync.downloads import DownloadLimits, Downloads
from pipelines.resync.schedule import Places, Schedule
from pipelines.resync.spool import Spool, SpoolError
from pipelines.resync.stage import STAGE, ResyncStage, Topics

DEFAULT_CONCURRENT_COUNT: Final = 16
DEFAULT_HOST_COUNT: Final = 4
# What servers of the network allow: so many requests of one address. spec: I-07
BUDGET_S: Final = 300
DEFAULT_HOST_BUDGET: Final = 3_000
# Of the budget, what may come at once after a quiet time.
_BURST_SHARE: Final = 30
LOOK_UPS_COUNT: Final = 64
# The largest repositories of the network, with the lowest speed of a stream, take hours; such a
# one is a matter for a person.
DEFAULT_TIMEOUT_S: Final = 1_800.0
DEFAULT_SPOOL_BYTES: Final = 4 * 1024**3


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what a worker does and keeps.

    Attributes:
        concurrent_count: downloads at once.
        host_count: of these, from one host.
        host_budget: requests of one host in `BUDGET_S`, at most; 2 at least.
        timeout_s: of one download.
        spool_bytes: of repositories that wait for Kafka, from which on nothing more is fetched.
    """

    concurrent_count: int = DEFAULT_CONCURRENT_COUNT
    host_count: int = DEFAULT_HOST_COUNT
    host_budget: int = DEFAULT_HOST_BUDGET
    timeout_s: float = DEFAULT_TIMEOUT_S
    spool_bytes: int = DEFAULT_SPOOL_BYTES

    @property
    def pace(self) -> PaceLimits:
        """How fast one host is asked, so that no stretch of `BUDGET_S` passes the budget."""
        burst_count = max(1, self.host_budget // _BURST_SHARE)
        per_s = (self.host_budget - burst_count) / BUDGET_S
        return PaceLimits(self.host_count, per_s, burst_count)


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Servers:
    """Who may be asked for repositories.

    Attributes:
        base: for simulated networks: a URL under which every server is found, as
            `{base}/<host>`; None asks the servers themselves.
        allow_loopback: for development: whether servers may be on this machine.
    """

    base: str | None = None
    allow_loopback: bool = False

    @property
    def guard(self) -> Guard:
        """Keeps requests away from where no outsider may send us."""
        trusted = () if self.base is None else (origin_of(URL(self.base)),)
        return Guard(self.allow_loopback, trusted=frozenset(trusted))


def run(
    kafka: KafkaConfig,
    resolver: DidResolver,
    folder: Path,
    *,
    slot: str,
    should_stop: Callable[[], bool],
    servers: Servers,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Runs one worker until it is asked to stop.

    Args:
        kafka: the cluster.
        resolver: asked for identities; closed with the worker.
        folder: for what waits on the disk; made if missing.
        slot: stable name of this worker among its kind.
        should_stop: asked between batches.
        servers: who may be asked.
        limits: bounds.

    Raises:
        ConfigError: topics are missing or not co-partitioned, or the folder cannot be used.
        BrokerUnavailableError: no broker answers at the start.
        FencedError: another process runs in this slot.
        OffsetLostError: requests were deleted before they were read.
    """
    counts = LoopCounts()

    def create() -> TransactionalLoop:
        return TransactionalLoop(
            kafka,
            stage_name=STAGE,
            slot=slot,
            topics=[kafka.topic("resyncs")],
            stage=stage,
            should_stop=should_stop,
            counts=counts,
        )

    with (
        closing(create_stage(kafka, resolver, folder, servers, limits)) as stage,
        heartbeat(kafka, STAGE, slot, lambda: counts.report(stage.groups)),
    ):
        run_restarting(create, should_stop)


def create_stage(
    kafka: KafkaConfig,
    resolver: DidResolver,
    folder: Path,
    servers: Servers,
    limits: Limits = DEFAULT_LIMITS,
) -> ResyncStage:
    """Returns the stage of a deployment, with nothing restored.

    Args:
        kafka: the cluster.
        resolver: asked for identities; closed with the stage.
        folder: for what waits on the disk; made if missing.
        servers: who may be asked.
        limits: bounds.

    Raises:
        ConfigError: topics are missing or not co-partitioned, or the folder cannot be used.
        BrokerUnavailableError: no broker answers.
    """
    check_partitions(kafka, ["resyncs", "repairs", "chunks", "snapshots", STATUS])
    topics = Topics(kafka.topic("repairs"), kafka.topic("chunks"), kafka.topic("snapshots"))
    try:
        spool = Spool(folder, limits.spool_bytes)
    except SpoolError as error:
        raise ConfigError(f"{error}: name another --state-dir") from None

    def ends_of(topic: str, partitions: Sequence[int]) -> Mapping[tuple[str, int], int]:
        return readable_log_ends(kafka, [(topic, partition) for partition in partitions])

    def load(partitions: Sequence[int]) -> Iterator[InputMessage]:
        ends = ends_of(topics.repairs, partitions)
        return read_between(kafka, dict.fromkeys(ends, 0), ends)

    def chunk_ends(partitions: Sequence[int]) -> Mapping[int, int]:
        ends = ends_of(topics.chunks, partitions)
        return {partition: end for (_, partition), end in ends.items()}

    fetcher = Fetcher(FetchLimits(limits.pace, limits.concurrent_count), servers.guard)
    stream = StreamLimits(total_bytes=REPO_LIMITS.car_bytes, total_s=limits.timeout_s)
    return ResyncStage(
        topics,
        Schedule(Places(limits.concurrent_count, limits.host_count, LOOK_UPS_COUNT)),
        Downloads(resolver, fetcher, spool, DownloadLimits(stream, REPO_LIMITS), servers.base),
        spool,
        load,
        chunk_ends,
        lambda: time.time_ns() // 1_000,
    )
