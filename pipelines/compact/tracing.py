"""From a record in `latest.*` back to what proves it: the frame, or the snapshot's chunks.

Reads the record's partition of its topic from the beginning, then the messages that it names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pipelines.atproto.syntax import Did, parse_path
from pipelines.compact.outputs import OutputTopics
from pipelines.compact.provenance import (
    Judgment,
    LatestRecord,
    Proof,
    judge_by_frame,
    judge_by_snapshot,
    parse_latest,
)
from pipelines.config import KafkaConfig
from pipelines.kafka.messages import Position
from pipelines.kafka.reading import log_starts, read_between, read_message, read_to_end
from pipelines.repair.manifests import Snapshot, parse_manifest
from pipelines.verdict import KeyLookup


class Place(NamedTuple):
    """A message in Kafka.

    Attributes:
        topic: physical name.
        partition: where it is in the topic.
        offset: where it is in the partition.
    """

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class Trace:
    """A record, and what its source says of it.

    Attributes:
        record: as `latest.*` has it.
        place: the message that proves it: of `frames` or `snapshots`.
        judgment: whether it does.
        snapshot: the snapshot's manifest; None for a frame, and for one that is no longer kept.
    """

    record: LatestRecord
    place: Place
    judgment: Judgment
    snapshot: Snapshot | None = None


def find_record(
    kafka: KafkaConfig, topics: OutputTopics, partition: int, did: Did, path: str
) -> LatestRecord | None:
    """Returns a record as `latest.*` has it now, or None.

    Args:
        kafka: the cluster.
        topics: the topics' names.
        partition: of the repository.
        did: the repository.
        path: of the record.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    key = f"at://{did}/{path}".encode()
    collection = parse_path(path)[0]
    # At most one of them has the record: it moves with a change of its own.
    values: dict[str, bytes | None] = {}
    homes = [topics.latest_of(collection), *topics.former.get(collection, ())]
    for message in read_to_end(kafka, homes, [partition]):
        if message.key == key:
            values[message.topic] = message.value
    return next((parse_latest(value) for value in values.values() if value is not None), None)


def trace(kafka: KafkaConfig, partition: int, record: LatestRecord, keys: KeyLookup) -> Trace:
    """Reads the source of a record, and proves the record by it again.

    Args:
        kafka: the cluster.
        partition: of the repository.
        record: as `latest.*` has it.
        keys: where to look up signing keys.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    source = record.source
    if source.snapshot_offset is not None:
        place = Place(kafka.topic("snapshots"), partition, source.snapshot_offset)
        return _trace_snapshot(kafka, place, record, keys)
    assert source.frame_partition is not None
    assert source.frame_offset is not None
    place = Place(kafka.topic("frames"), source.frame_partition, source.frame_offset)
    message = read_message(kafka, *place)
    if message is None:
        return Trace(record, place, _missing(kafka, place, "frame"))
    return Trace(record, place, judge_by_frame(record, message.value or b"", keys))


def _trace_snapshot(
    kafka: KafkaConfig, place: Place, record: LatestRecord, keys: KeyLookup
) -> Trace:
    message = read_message(kafka, *place)
    if message is None:
        return Trace(record, place, _missing(kafka, place, "snapshot"))
    manifest = parse_manifest(message.value or b"")
    if not isinstance(manifest, Snapshot):
        problem = "what is there is a host's word that it has no such repository"
        return Trace(record, place, Judgment(Proof.REFUTED, problem))
    where = (kafka.topic("chunks"), place.partition)
    first, end = manifest.first_chunk_offset, manifest.end_chunk_offset
    start = log_starts(kafka, [where])[where] or 0
    if first < min(start, end):
        judgment = _missing(kafka, Place(*where, first), "snapshot's chunks")
    else:
        judgment = judge_by_snapshot(record, manifest, _chunks(kafka, where, first, end), keys)
    return Trace(record, place, judgment, manifest)


def _chunks(kafka: KafkaConfig, where: Position, first: int, end: int) -> Iterator[bytes]:
    for message in read_between(kafka, {where: first}, {where: end}):
        yield message.value or b""


def _missing(kafka: KafkaConfig, place: Place, what: str) -> Judgment:
    """Says of a message that cannot be read whether it is gone, or was never there."""
    where = (place.topic, place.partition)
    start = log_starts(kafka, [where])[where]
    if start is not None and place.offset < start:
        return Judgment(
            Proof.EXPIRED,
            f"its {what} was at {place} and is no longer kept: the partition begins at {start}. "
            f"`standpipe audit` with the DID alone proves the record by the repository's root",
        )
    return Judgment(
        Proof.REFUTED, f"there is no {what} at {place}: the topic was made anew, or is another"
    )
