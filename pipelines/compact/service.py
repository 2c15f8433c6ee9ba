"""Compact as a process: what is known of repositories in, their state and latest records out."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from pipelines import logs
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.syntax import Did
from pipelines.compact.accounts import Policy, without_repository
from pipelines.compact.applying import Applier
from pipelines.compact.events import parse_event
from pipelines.compact.held import HeldPartition
from pipelines.compact.outputs import OutputTopics, tombstone_messages
from pipelines.compact.overrides import parse_override
from pipelines.compact.reducer import Outcome, reduce_event, reduce_override
from pipelines.compact.repair import reduce_answer
from pipelines.compact.restore import Restoration
from pipelines.compact.sampling import Sampler
from pipelines.compact.state import finish_purge
from pipelines.compact.writer import Writer, change_of
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import check_partitions, topic_ids
from pipelines.kafka.admission import TOPIC as TABLES
from pipelines.kafka.admission import Admissions
from pipelines.kafka.admitting import confirmation, join
from pipelines.kafka.beat import TOPIC as STATUS
from pipelines.kafka.counts import LoopCounts, Tally
from pipelines.kafka.heartbeat import heartbeat
from pipelines.kafka.locks import exclusive
from pipelines.kafka.loop import Background, TransactionalLoop, run_restarting
from pipelines.kafka.messages import InputMessage, OutputMessage, Position
from pipelines.kafka.reading import readable_log_ends
from pipelines.kafka.rereading import OffsetReader, RowReader
from pipelines.kafka.topics import Registry
from pipelines.repair.chunks import CHUNK_BYTES
from pipelines.repair.manifests import parse_manifest

# Tombstones in one transaction when an account is deleted: some 300 kB, so that deleting a large
# account does not hold up the readers of its partition.
PURGE_SLICE_COUNT = 1_000
# A predecessor in the slot that was killed is gone at once; one that stops cleanly takes seconds.
LOCK_TIMEOUT_S = 30.0

# Of one fetch from `chunks`: some of them, and never less than one.
CHUNKS_FETCH_BYTES = 4 * CHUNK_BYTES
# Events of the partition wait as long, where the leader of the chunks' partition is away.
CHUNKS_TIMEOUT_S = 0.5

STAGE = "compact"
# All of them count on the same number of partitions.
INPUTS = ("events", "snapshots", "overrides")

_log = logs.get_logger(STAGE)


class CompactStage:
    """Judges events and snapshots against the state of their repositories.

    Attributes:
        tally: events and answers by outcome, and messages written to `repos`, `latest` and
            `resyncs`.
    """

    def __init__(
        self,
        topics: OutputTopics,
        snapshots: str,
        overrides: str,
        folder: Path,
        restoration: Restoration,
        partition_ends: Callable[[Sequence[int]], Mapping[int, Mapping[str, int]]],
        applier: Callable[[Writer, Tally], Applier],
        clock_ms: Callable[[], int],
        confirm_table: Callable[[], None],
        policy: Policy,
    ) -> None:
        """Wires the stage.

        Args:
            topics: where outputs go.
            snapshots: physical name of `snapshots`.
            overrides: physical name of `overrides`; all other inputs are events.
            folder: holds a store for each partition.
            restoration: makes stores current.
            partition_ends: by partition and topic, where our own topics end, once everything in
                them is readable.
            applier: makes what applies snapshots.
            clock_ms: milliseconds since the epoch.
            confirm_table: called by who is a member of the group; raises `ConfigError` if
                `topics` does not have the deployment's table of admitted collections any more.
            policy: what the operator decides.
        """
        self._topics = topics
        self._confirm_table = confirm_table
        self._snapshots = snapshots
        self._overrides = overrides
        self._folder = folder
        self._restoration = restoration
        self._partition_ends = partition_ends
        self._clock_ms = clock_ms
        self._held: dict[int, HeldPartition] = {}
        self.tally = Tally()
        self._policy = policy
        self._writer = Writer(topics, self.tally, policy)
        self._applier = applier(self._writer, self.tally)
        self._sampler = Sampler()

    def groups(self) -> dict[str, Mapping[str, int]]:
        """Returns what was counted, and how many of our repositories are in which sync state."""
        repos: Counter[str] = Counter()
        for held in list(self._held.values()):
            repos.update(held.repos_count)
        waiting_count = sum(held.deleted_count for held in list(self._held.values()))
        return {
            **self.tally.groups,
            "repos": repos,
            "deletions": {"waiting": waiting_count},
            "audited": self._sampler.counts,
        }

    def close(self) -> None:
        """Closes stores and readers."""
        self._close_stores()
        self._applier.close()

    def prepare(self, batch: Sequence[InputMessage]) -> None:
        """Needs nothing from outside."""

    def process(self, message: InputMessage) -> Sequence[OutputMessage]:
        """Applies one event, the answer of a server, or an override to its repository."""
        held = self._held[message.partition]
        if message.topic == self._snapshots:
            return self._answer(held, message)
        if message.topic == self._overrides:
            return self._override(held, message)
        event = parse_event(message.value or b"")
        known = held.repo(event.did)
        if known is None and not self._policy.tracked.takes_up(event):
            self.tally.add("events", Outcome.UNTRACKED)
            return ()
        reduction = reduce_event(known, event, message.offset)
        self.tally.add("events", reduction.outcome)
        if reduction.state is None:
            return ()
        change = change_of(event, reduction.ops)
        return self._writer.write(held, message.partition, reduction.state, change)

    def restore(self, partitions: Sequence[int]) -> Iterator[None]:
        """Opens the stores of newly assigned partitions and reads what they lack."""
        self._confirm_table()
        # Also those that stay: another member may have written them in between.
        self._close_stores()
        self._applier.forget()
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
        """Returns the next tombstones of a deleted account, or else records of a snapshot.

        A deletion that has waited for long enough becomes one that has tombstones to write.
        """
        now_us = self._clock_ms() * 1_000
        for partition in partitions:
            held = self._held[partition]
            waiting = held.first_deleted
            if waiting is not None and self._policy.is_overdue(waiting[1], now_us):
                return Background(partition, self._give_up(partition, held, *waiting, now_us))
            did = next(iter(held.purging), None)
            if did is not None:
                return Background(partition, self._purge_slice(partition, held, did))
        for partition in partitions:
            work = self._applier.slice(partition, self._held[partition])
            if work is not None:
                return work
        # Where nothing is written, nothing waits for it: it has its slice between two batches.
        self._sampler.step({number: self._held[number] for number in partitions}, time.monotonic())
        return None

    def committed(self, next_offsets: Mapping[Position, int]) -> None:
        """Writes what was committed to the stores."""
        self.tally.commit()
        now_ms = self._clock_ms()
        # What a store is made of; requests are only written.
        kept = {self._topics.repos, *self._topics.latest}
        for partition, held in self._held.items():
            held.commit(
                {
                    topic: end
                    for (topic, number), end in next_offsets.items()
                    if number == partition and topic in kept
                },
                now_ms,
            )

    def discard(self) -> None:
        """Forgets what was not committed."""
        self.tally.discard()
        for held in self._held.values():
            held.discard()

    def _answer(self, held: HeldPartition, message: InputMessage) -> Sequence[OutputMessage]:
        manifest = parse_manifest(message.value or b"")
        known = held.repo(manifest.did)
        if known is None and not self._policy.tracked.takes_up_answer(manifest):
            self.tally.add("answers", Outcome.UNTRACKED)
            return ()
        answer = reduce_answer(known, manifest, message.offset)
        self.tally.add("answers", answer.outcome)
        if answer.state is None:
            return ()
        return self._writer.write(held, message.partition, answer.state)

    def _override(self, held: HeldPartition, message: InputMessage) -> Sequence[OutputMessage]:
        assert message.key is not None
        did = Did(message.key.decode())
        override = None if message.value is None else parse_override(message.value)
        received_us = message.timestamp_ms * 1_000
        state = reduce_override(held.repo(did), did, override, received_us).state
        if state is None:
            return ()
        status = None if override is None else override.status
        _log.info("overridden", did=did, status=status, upstream=state.upstream_status)
        return self._writer.write(held, message.partition, state)

    def _close_stores(self) -> None:
        self._sampler.forget()
        for held in self._held.values():
            held.close()
        self._held.clear()

    def _give_up(
        self, partition: int, held: HeldPartition, did: Did, deletion_us: int, now_us: int
    ) -> list[OutputMessage]:
        """Lets the records of an account go although nobody confirmed its deletion."""
        _log.info("unconfirmed", did=did, waited_s=(now_us - deletion_us) // 1_000_000)
        state = held.repo(did)
        assert state is not None
        return self._writer.write(held, partition, without_repository(state))

    def _purge_slice(self, partition: int, held: HeldPartition, did: Did) -> list[OutputMessage]:
        state = held.repo(did)
        assert state is not None
        assert state.deleted_rev is not None
        # A later life of the account may have written records meanwhile: those stay.
        deleted_rev = state.deleted_rev
        doomed = (item for item in held.records(did) if item[1].rev <= deleted_rev)
        outputs: list[OutputMessage] = []
        purged_count = 0
        for path, record in islice(doomed, PURGE_SLICE_COUNT):
            held.remove_record(did, path)
            prev = encode_cid(record.cid)
            outputs += tombstone_messages(did, path, prev, state, partition, self._topics)
            purged_count += 1
        self._writer.count(outputs)
        if purged_count < PURGE_SLICE_COUNT:
            outputs += self._writer.write(held, partition, finish_purge(state))
        return outputs


def run(
    kafka: KafkaConfig,
    folder: Path,
    *,
    slot: str,
    policy: Policy,
    should_stop: Callable[[], bool],
) -> None:
    """Runs one compact process until it is asked to stop.

    Args:
        kafka: the cluster.
        folder: for the stores of this slot; made if missing.
        slot: stable name of this process among its kind.
        policy: what the operator decides.
        should_stop: asked between batches.

    Raises:
        ConfigError: topics are missing or not co-partitioned.
        BrokerUnavailableError: no broker answers at the start, or another process has the stores.
        FencedError: another process runs in this slot.
        OffsetLostError: events were deleted before they were read.
    """
    stage = create_stage(kafka, folder, policy)
    counts = LoopCounts()

    def create() -> TransactionalLoop:
        return TransactionalLoop(
            kafka,
            stage_name=STAGE,
            slot=slot,
            topics=[kafka.topic(name) for name in INPUTS],
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


def create_stage(kafka: KafkaConfig, folder: Path, policy: Policy) -> CompactStage:
    """Returns the stage of a deployment, with nothing restored.

    Args:
        kafka: the cluster.
        folder: for the stores.
        policy: what the operator decides.

    Raises:
        ConfigError: topics are missing or not co-partitioned, or the deployment has another table
            of admitted collections.
        BrokerUnavailableError: no broker answers.
    """
    needed = [*INPUTS, "resyncs", "chunks", "repos", STATUS, TABLES]
    check_partitions(kafka, needed)
    known, admissions = join(kafka)
    check_partitions(kafka, [*needed, *known.specs["latest"].topics], known)
    topics = output_topics(kafka, known, admissions)
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

    def create_applier(writer: Writer, tally: Tally) -> Applier:
        chunks = RowReader(
            kafka,
            kafka.topic("chunks"),
            fetch_bytes=CHUNKS_FETCH_BYTES,
            timeout_s=CHUNKS_TIMEOUT_S,
        )
        events = OffsetReader(kafka, kafka.topic("events"))
        return Applier(writer, tally, chunks, events, _now_ms)

    return CompactStage(
        topics,
        kafka.topic("snapshots"),
        kafka.topic("overrides"),
        folder,
        restoration,
        partition_ends,
        create_applier,
        _now_ms,
        confirmation(kafka, admissions),
        policy,
    )


def output_topics(kafka: KafkaConfig, topics: Registry, admissions: Admissions) -> OutputTopics:
    """Returns the physical names of compact's outputs.

    Args:
        kafka: has the prefix.
        topics: the registry with every collection that is or was admitted.
        admissions: tells which are: by the newest table, whatever an event's frame is.
    """
    assert admissions.current is not None
    own = {
        nsid: kafka.topic(topics.topic_for_collection(nsid, "latest")) for nsid in admissions.ever
    }
    other = kafka.topic("latest.other")
    current = {nsid: own[nsid] for nsid in admissions.current.collections}
    former = {
        nsid: tuple(kafka.topic(f"latest.{home}") for home in admissions.homes_of(nsid)[1:])
        for nsid in admissions.ever
    }
    return OutputTopics(
        repos=kafka.topic("repos"),
        resyncs=kafka.topic("resyncs"),
        latest_other=other,
        latest_by_collection=current,
        former={nsid: homes for nsid, homes in former.items() if homes},
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
