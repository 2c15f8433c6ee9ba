"""Explode as a process: frames in, verdicts with cached keys, events and records out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, assert_never

from pipelines import logs
from pipelines.atproto.commit import VerifiedCommit
from pipelines.atproto.frames import IdentityMessage
from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.explode.outputs import OutputTopics, Source, outputs_of
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.beat import TOPIC as STATUS
from pipelines.kafka.counts import LoopCounts, Tally
from pipelines.kafka.heartbeat import heartbeat
from pipelines.kafka.loop import Stateless, TransactionalLoop, run_restarting
from pipelines.kafka.messages import InputMessage, OutputMessage, Position
from pipelines.kafka.topics import Registry, registry
from pipelines.verdict import KeyLookup, Proven, Refused, Skipped, Unsigned, Verdict, judge_frame

STAGE = "explode"

_log = logs.get_logger(STAGE)


class CachedKeys(KeyLookup, Protocol):
    """Key look-up with a cache that can be filled ahead and emptied."""

    def prefetch(self, dids: Sequence[Did]) -> None:
        """Looks up unknown DIDs concurrently; failures show when a key is asked for."""

    def forget(self, did: Did) -> None:
        """Marks what is known of a DID as stale."""


class ExplodeStage(Stateless):
    """One frame at a time; holds no state of any repository.

    Attributes:
        tally: frames by verdict, and messages written by topic.
    """

    def __init__(self, keys: CachedKeys, topics: OutputTopics) -> None:
        """Wires the stage.

        Args:
            keys: where signing keys come from.
            topics: where outputs go.
        """
        self._keys = keys
        self._topics = topics
        self._kinds = {topics.events: "events", topics.quarantine: "quarantine"}
        self.tally = Tally()

    def prepare(self, batch: Sequence[InputMessage]) -> None:
        """Looks up the signing keys of a batch, all at once."""
        self._keys.prefetch(list(dict.fromkeys(map(_did, batch))))

    def process(self, message: InputMessage) -> Sequence[OutputMessage]:
        """Proves one frame and returns what it causes.

        Raises:
            IdentityUnavailableError: the signing key cannot be looked up now.
        """
        source = source_of(message)
        verdict = judge_frame(message.value or b"", self._keys, source.received_us)
        if isinstance(verdict, Unsigned):
            # The document or the hosting may have changed: ask again before the next commit.
            self._keys.forget(verdict.message.did)
        elif isinstance(verdict, Refused):
            _log.warning(
                "refused",
                reason=verdict.error.reason,
                did=_did(message),
                partition=message.partition,
                offset=message.offset,
                detail=verdict.error.detail,
            )
        self.tally.add(*_category(verdict))
        outputs = outputs_of(verdict, source, self._topics)
        for output in outputs:
            self.tally.add("written", self._kinds.get(output.topic, "records"))
        return outputs

    def committed(self, next_offsets: Mapping[Position, int]) -> None:  # noqa: ARG002 - Stage's
        """Counts what was processed."""
        self.tally.commit()

    def discard(self) -> None:
        """Does not count what will be processed again."""
        self.tally.discard()


def run(
    kafka: KafkaConfig, keys: CachedKeys, *, slot: str, should_stop: Callable[[], bool]
) -> None:
    """Runs one worker until it is asked to stop.

    Args:
        kafka: the cluster.
        keys: where signing keys come from.
        slot: stable name of this worker among its kind.
        should_stop: asked between batches.

    Raises:
        ConfigError: topics are missing or not co-partitioned.
        BrokerUnavailableError: no broker answers at the start.
        FencedError: another process runs in this slot.
        OffsetLostError: frames were deleted before they were read.
    """
    topics = registry()
    names = output_topics(kafka, topics)
    written = ["events", "quarantine", *topics.specs["records"].topics]
    check_partitions(kafka, ["frames", *written, STATUS])
    stage = ExplodeStage(keys, names)
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

    with heartbeat(kafka, STAGE, slot, lambda: counts.report(stage.tally.groups)):
        run_restarting(create, should_stop)


def output_topics(kafka: KafkaConfig, topics: Registry) -> OutputTopics:
    """Returns the physical names of explode's outputs."""
    return OutputTopics(
        events=kafka.topic("events"),
        quarantine=kafka.topic("quarantine"),
        records_other=kafka.topic("records.other"),
        records_by_collection={
            nsid: kafka.topic(topics.topic_for_collection(nsid))
            for nsid in topics.admitted_collections
        },
    )


def source_of(message: InputMessage) -> Source:
    """Returns where a frame came from, by the headers that the bridge wrote."""
    headers = dict(message.headers)
    return Source(
        host=headers["host"].decode(),
        received_us=int(headers["received_us"]),
        message=message,
    )


def _category(verdict: Verdict) -> tuple[str, str]:
    """Returns the group in which a verdict is counted, and its member."""
    match verdict:
        case Proven(verified):
            return "proven", "commit" if isinstance(verified, VerifiedCommit) else "sync"
        case Unsigned(message):
            return "unsigned", "identity" if isinstance(message, IdentityMessage) else "account"
        case Refused(error):
            return "refused", error.reason
        case Skipped(envelope):
            return "skipped", envelope.kind
        case _:
            assert_never(verdict)


def _did(message: InputMessage) -> Did:
    # The bridge keys each frame by the DID that it read in it.
    return Did((message.key or b"").decode())
