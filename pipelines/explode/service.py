"""Explode as a process: frames in, verdicts with cached keys, events and records out."""

from collections.abc import Callable, Sequence
from typing import Protocol

from pipelines import logs
from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.explode.outputs import OutputTopics, Source, outputs_of
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.loop import Stateless, TransactionalLoop, run_restarting
from pipelines.kafka.messages import InputMessage, OutputMessage
from pipelines.kafka.topics import Registry, registry
from pipelines.verdict import KeyLookup, Refused, Unsigned, judge_frame

_log = logs.get_logger("explode")


class CachedKeys(KeyLookup, Protocol):
    """Key look-up with a cache that can be filled ahead and emptied."""

    def prefetch(self, dids: Sequence[Did]) -> None:
        """Looks up unknown DIDs concurrently; failures show when a key is asked for."""

    def forget(self, did: Did) -> None:
        """Marks what is known of a DID as stale."""


class ExplodeStage(Stateless):
    """One frame at a time; holds no state of any repository."""

    def __init__(self, keys: CachedKeys, topics: OutputTopics) -> None:
        """Wires the stage.

        Args:
            keys: where signing keys come from.
            topics: where outputs go.
        """
        self._keys = keys
        self._topics = topics

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
        return outputs_of(verdict, source, self._topics)


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
    check_partitions(kafka, ["frames", "events", "quarantine", *topics.specs["records"].topics])

    def create() -> TransactionalLoop:
        return TransactionalLoop(
            kafka,
            stage_name="explode",
            slot=slot,
            topics=[kafka.topic("frames")],
            stage=ExplodeStage(keys, names),
            should_stop=should_stop,
        )

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


def _did(message: InputMessage) -> Did:
    # The bridge keys each frame by the DID that it read in it.
    return Did((message.key or b"").decode())
