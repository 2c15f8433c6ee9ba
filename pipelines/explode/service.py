"""Explode as a process: frames in, verdicts with cached keys, events and records out."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.config import KafkaConfig
from pipelines.explode.ceiling import RefusalWindow
from pipelines.explode.identities import HeldIdentities
from pipelines.explode.outputs import OutputTopics
from pipelines.explode.stage import STAGE, ExplodeStage
from pipelines.explode.waiting import DEFAULT_LIMIT_S, WaitingFrames
from pipelines.identity.keyring import KeyRing
from pipelines.identity.lookups import DidResolver
from pipelines.identity.memory import DEFAULT_KEYS_COUNT
from pipelines.kafka.admin import check_partitions, topic_ids
from pipelines.kafka.admission import TOPIC as TABLES
from pipelines.kafka.admission import Admissions
from pipelines.kafka.admitting import confirmation, join
from pipelines.kafka.beat import TOPIC as STATUS
from pipelines.kafka.copies import Original
from pipelines.kafka.counts import LoopCounts
from pipelines.kafka.following import Follower
from pipelines.kafka.heartbeat import heartbeat
from pipelines.kafka.locks import exclusive
from pipelines.kafka.loop import TransactionalLoop, run_restarting
from pipelines.kafka.messages import InputMessage, Position
from pipelines.kafka.reading import read_between, readable_log_ends
from pipelines.kafka.rereading import OffsetReader
from pipelines.kafka.topics import Registry

# A predecessor in the slot that was killed is gone at once; one that stops cleanly takes seconds.
LOCK_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what a worker keeps, and what it is told to do otherwise.

    Attributes:
        keys_count: signing keys in memory.
        waiting_s: how long a frame may wait for its account's identity, seconds.
        has_refusal_ceiling: whether it stops when refusals look like our own fault.
        has_blocks: whether the messages of records have their blocks beside the JSON, too.
    """

    keys_count: int = DEFAULT_KEYS_COUNT
    waiting_s: float = DEFAULT_LIMIT_S
    has_refusal_ceiling: bool = True
    has_blocks: bool = False


DEFAULT_LIMITS = Limits()


def run(
    kafka: KafkaConfig,
    resolver: DidResolver,
    folder: Path,
    *,
    slot: str,
    should_stop: Callable[[], bool],
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Runs one worker until it is asked to stop.

    Args:
        kafka: the cluster.
        resolver: asked for identities that nobody knows yet; closed with the worker.
        folder: for the stores of this slot; made if missing.
        slot: stable name of this worker among its kind.
        should_stop: asked between batches.
        limits: bounds of what it keeps.

    Raises:
        ConfigError: topics are missing or not co-partitioned, or the deployment has another table
            of admitted collections.
        BrokerUnavailableError: no broker answers at the start, or another process has the stores.
        FencedError: another process runs in this slot.
        OffsetLostError: frames were deleted before they were read.
        RefusalCeilingError: so much is refused that the fault is likely ours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    purpose = f"has the stores in {folder}"
    counts = LoopCounts()

    def create() -> TransactionalLoop:
        return TransactionalLoop(
            kafka,
            stage_name=STAGE,
            slot=slot,
            topics=[kafka.topic("frames")],
            stage=stage,
            should_stop=should_stop,
            counts=counts,
        )

    with (
        exclusive(folder / "lock", purpose=purpose, timeout_s=LOCK_TIMEOUT_S),
        closing(create_stage(kafka, resolver, folder, limits)) as stage,
        heartbeat(kafka, STAGE, slot, lambda: counts.report(stage.groups)),
    ):
        run_restarting(create, should_stop)


def create_stage(
    kafka: KafkaConfig, resolver: DidResolver, folder: Path, limits: Limits = DEFAULT_LIMITS
) -> ExplodeStage:
    """Returns the stage of a deployment, with nothing restored.

    Args:
        kafka: the cluster.
        resolver: asked for identities; closed with the stage.
        folder: for the stores.
        limits: bounds of what it keeps.

    Raises:
        ConfigError: topics are missing or not co-partitioned, or the deployment has another table
            of admitted collections.
        BrokerUnavailableError: no broker answers.
    """
    needed = ["frames", "events", "quarantine", "identities", "parked", STATUS, TABLES]
    check_partitions(kafka, needed)
    known, admissions = join(kafka)
    needed += known.specs["records"].topics
    partitions_count = check_partitions(kafka, needed, known)["frames"]
    topics = replace(output_topics(kafka, known, admissions), has_blocks=limits.has_blocks)

    def ends_of(topic: str, partitions: Sequence[int]) -> dict[Position, int]:
        return readable_log_ends(kafka, [(topic, partition) for partition in partitions])

    def identity_ends(partitions: Sequence[int]) -> Mapping[int, int]:
        ends = ends_of(topics.identities, partitions)
        return {partition: end for (_, partition), end in ends.items()}

    def load_parked(partitions: Sequence[int]) -> Iterator[InputMessage]:
        ends = ends_of(topics.parked, partitions)
        return read_between(kafka, dict.fromkeys(ends, 0), ends)

    identities = HeldIdentities(
        topics.identities,
        partitions_count,
        folder / "identities",
        Original(
            kafka,
            STAGE,
            topic_ids(kafka, [topics.identities]),
            int(known.specs["identities"].configs["delete.retention.ms"]),
            lambda: _now_us() // 1_000,
        ),
        identity_ends,
        Follower(kafka),
    )
    keys = KeyRing(resolver, identities, max_keys=limits.keys_count)
    waiting = WaitingFrames(
        topics.parked,
        load=load_parked,
        reader=OffsetReader(kafka, kafka.topic("frames")),
        outlook=keys.outlook,
        clock_us=_now_us,
        limit_s=limits.waiting_s,
    )
    refusals = RefusalWindow(is_binding=limits.has_refusal_ceiling)
    return ExplodeStage(
        keys, identities, waiting, topics, refusals, confirmation(kafka, admissions)
    )


def output_topics(kafka: KafkaConfig, topics: Registry, admissions: Admissions) -> OutputTopics:
    """Returns the physical names of explode's outputs.

    Args:
        kafka: has the prefix.
        topics: the registry with every collection that is or was admitted.
        admissions: tells which are.
    """
    return OutputTopics(
        events=kafka.topic("events"),
        quarantine=kafka.topic("quarantine"),
        identities=kafka.topic("identities"),
        parked=kafka.topic("parked"),
        records_other=kafka.topic("records.other"),
        records_by_collection={
            nsid: kafka.topic(topics.topic_for_collection(nsid))
            for nsid in topics.admitted_collections
        },
        admissions=admissions,
    )


def _now_us() -> int:
    return time.time_ns() // 1_000
