"""Compact as a process: events in, the state of repositories and their latest records out."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from pipelines import logs
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.syntax import Did
from pipelines.compact.events import CommitEvent, parse_event
from pipelines.compact.held import HeldPartition
from pipelines.compact.outputs import (
    OutputTopics,
    record_messages,
    repo_message,
    tombstone_message,
)
from pipelines.compact.reducer import reduce_event
from pipelines.compact.restore import Restoration
from pipelines.compact.state import Sync, finish_purge
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import check_partitions, topic_ids
from pipelines.kafka.beat import TOPIC as STATUS
from pipelines.kafka.counts import LoopCounts, Tally
from pipelines.kafka.heartbeat import heartbeat
from pipelines.kafka.locks import exclusive
from pipelines.kafka.loop import Background, TransactionalLoop, run_restarting
from pipelines.kafka.messages import InputMessage, OutputMessage, Position
from pipelines.kafka.reading import readable_log_ends
from pipelines.kafka.topics import Registry, registry

# Tombstones in one transaction when an account is deleted: some 300 kB, so that deleting a large
# account does not hold up the readers of its partition.
PURGE_SLICE_COUNT = 1_000
# A predecessor in the slot that was killed is gone at once; one that stops cleanly takes seconds.
LOCK_TIMEOUT_S = 30.0

STAGE = "compact"

_log = logs.get_logger(STAGE)


class CompactStage:
    """Judges events against the state of their repositories.

    Attributes:
        tally: events by outcome, and messages written to `repos` and `latest`.
    """

    def __init__(
        self,
        topics: OutputTopics,
        folder: Path,
        restoration: Restoration,
        partition_ends: Callable[[Sequence[int]], Mapping[int, Mapping[str, int]]],
        clock_ms: Callable[[], int],
    ) -> None:
        """Wires the stage.

        Args:
            topics: where outputs go.
            folder: holds a store for each partition.
            restoration: makes stores current.
            partition_ends: by partition and topic, where our own topics end, once everything in
                them is readable.
            clock_ms: milliseconds since the epoch.
        """
        self._topics = topics
        self._folder = folder
        self._restoration = restoration
        self._partition_ends = partition_ends
        self._clock_ms = clock_ms
        self._held: dict[int, HeldPartition] = {}
        self.tally = Tally()

    def groups(self) -> dict[str, Mapping[str, int]]:
        """Returns what was counted, and how many of our repositories are in which sync state."""
        repos: Counter[str] = Counter()
        for held in list(self._held.values()):
            repos.update(held.repos_count)
        return {**self.tally.groups, "repos": repos}

    def close(self) -> None:
        """Closes the stores."""
        for held in self._held.values():
            held.close()
        self._held.clear()

    def prepare(self, batch: Sequence[InputMessage]) -> None:
        """Needs nothing from outside."""

    def process(self, message: InputMessage) -> Sequence[OutputMessage]:
        """Applies one event to its repository."""
        event = parse_event(message.value or b"")
        held = self._held[message.partition]
        known = held.repo(event.did)
        reduction = reduce_event(known, event)
        self.tally.add("events", reduction.outcome)
        state = reduction.state
        if state is None:
            return ()
        if state.sync is Sync.DESYNCHRONIZED and (known is None or known.sync is not state.sync):
            _log.warning(
                "desynchronized",
                did=state.did,
                reason=state.reason,
                partition=message.partition,
                offset=message.offset,
            )
        rev = event.signed.rev if isinstance(event, CommitEvent) else None
        held.put(state, rev, reduction.ops)
        outputs = [repo_message(state, message.partition, self._topics)]
        if rev is not None:
            outputs += record_messages(
                state.did, rev, reduction.ops, event.source, message.partition, self._topics
            )
        self._count(outputs)
        return outputs

    def restore(self, partitions: Sequence[int]) -> Iterator[None]:
        """Opens the stores of newly assigned partitions and reads what they lack."""
        # Also those that stay: another member may have written them in between.
        self.close()
        ends = self._partition_ends(partitions)
        for partition in partitions:
            store = self._restoration.open(self._folder / str(partition), ends[partition])
            try:
                yield from self._restoration.fill(store, partition, ends[partition])
            except BaseException:
                store.close()
                raise
            self._held[partition] = HeldPartition(store)

    def background(self, partitions: Collection[int]) -> Background | None:
        """Returns the next tombstones of an account that was deleted."""
        for partition in partitions:
            held = self._held[partition]
            did = next(iter(held.purging), None)
            if did is not None:
                return Background(partition, self._purge_slice(partition, held, did))
        return None

    def committed(self, next_offsets: Mapping[Position, int]) -> None:
        """Writes what was committed to the stores."""
        self.tally.commit()
        now_ms = self._clock_ms()
        for partition, held in self._held.items():
            held.commit(
                {
                    topic: end
                    for (topic, number), end in next_offsets.items()
                    if number == partition
                },
                now_ms,
            )

    def discard(self) -> None:
        """Forgets what was not committed."""
        self.tally.discard()
        for held in self._held.values():
            held.discard()

    def _purge_slice(self, partition: int, held: HeldPartition, did: Did) -> list[OutputMessage]:
        state = held.repo(did)
        assert state is not None
        assert state.deleted_rev is not None
        # A later life of the account may have written records meanwhile: those stay.
        deleted_rev = state.deleted_rev
        doomed = (item for item in held.records(did) if item[1].rev <= deleted_rev)
        outputs = []
        for path, record in islice(doomed, PURGE_SLICE_COUNT):
            held.remove_record(did, path)
            prev = encode_cid(record.cid)
            outputs.append(tombstone_message(did, path, prev, state, partition, self._topics))
        if len(outputs) < PURGE_SLICE_COUNT:
            state = finish_purge(state)
            held.put(state, None, ())
            outputs.append(repo_message(state, partition, self._topics))
        self._count(outputs)
        return outputs

    def _count(self, outputs: Sequence[OutputMessage]) -> None:
        repos_count = sum(output.topic == self._topics.repos for output in outputs)
        self.tally.add("written", "repos", repos_count)
        self.tally.add("written", "latest", len(outputs) - repos_count)


def run(kafka: KafkaConfig, folder: Path, *, slot: str, should_stop: Callable[[], bool]) -> None:
    """Runs one compact process until it is asked to stop.

    Args:
        kafka: the cluster.
        folder: for the stores of this slot; made if missing.
        slot: stable name of this process among its kind.
        should_stop: asked between batches.

    Raises:
        ConfigError: topics are missing or not co-partitioned.
        BrokerUnavailableError: no broker answers at the start, or another process has the stores.
        FencedError: another process runs in this slot.
        OffsetLostError: events were deleted before they were read.
    """
    latest = registry().specs["latest"].topics
    check_partitions(kafka, ["events", "repos", *latest, STATUS])
    stage = create_stage(kafka, folder)
    counts = LoopCounts()

    def create() -> TransactionalLoop:
        return TransactionalLoop(
            kafka,
            stage_name=STAGE,
            slot=slot,
            topics=[kafka.topic("events")],
            stage=stage,
            should_stop=should_stop,
            counts=counts,
        )

    folder.mkdir(parents=True, exist_ok=True)
    purpose = f"has the stores in {folder}"
    with (
        exclusive(folder / "lock", purpose=purpose, timeout_s=LOCK_TIMEOUT_S),
        heartbeat(kafka, STAGE, slot, lambda: counts.report(stage.groups())),
        closing(stage),
    ):
        run_restarting(create, should_stop)


def create_stage(kafka: KafkaConfig, folder: Path) -> CompactStage:
    """Returns the stage of a deployment, with nothing restored.

    Args:
        kafka: the cluster.
        folder: for the stores.

    Raises:
        ConfigError: topics are missing.
        BrokerUnavailableError: no broker answers.
    """
    known = registry()
    topics = output_topics(kafka, known)
    own_topics = [topics.repos, *topics.latest]
    restoration = Restoration(
        kafka,
        topics,
        topic_ids(kafka, own_topics),
        int(known.specs["latest"].configs["delete.retention.ms"]),
        _now_ms,
    )

    def partition_ends(partitions: Sequence[int]) -> dict[int, dict[str, int]]:
        wanted = [(topic, partition) for topic in own_topics for partition in partitions]
        ends = readable_log_ends(kafka, wanted)
        return {
            partition: {topic: ends[topic, partition] for topic in own_topics}
            for partition in partitions
        }

    return CompactStage(topics, folder, restoration, partition_ends, _now_ms)


def output_topics(kafka: KafkaConfig, topics: Registry) -> OutputTopics:
    """Returns the physical names of compact's outputs."""
    return OutputTopics(
        repos=kafka.topic("repos"),
        latest_other=kafka.topic("latest.other"),
        latest_by_collection={
            nsid: kafka.topic(topics.topic_for_collection(nsid, "latest"))
            for nsid in topics.admitted_collections
        },
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
