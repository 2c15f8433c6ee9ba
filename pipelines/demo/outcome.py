"""What a finished run left in the topics, read as anybody reads them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.syntax import Did
from pipelines.compact.audit import Audit, read_partition
from pipelines.compact.service import output_topics
from pipelines.compact.state import RepoState
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.admitting import deployed
from pipelines.kafka.reading import read_to_end
from pipelines.schemas import (
    Record,
    parse_event,
    parse_frame_headers,
    parse_minute,
    parse_quarantine_headers,
    parse_record,
    parse_record_headers,
)

Frame = tuple[int, int]  # partition and offset in `frames`


@dataclass(frozen=True, slots=True)
class HeldRepo:
    """A repository as the topics have it.

    Attributes:
        state: from `repos`.
        records: path → record CID as text, from `latest.*`.
        audit: its root, recomputed from them.
    """

    state: RepoState
    records: Mapping[str, str]
    audit: Audit


@dataclass(slots=True)
class Outcome:
    """What is in the topics.

    Attributes:
        frames: where the frames are.
        last_seq: highest sequence number of them.
        judged: where the frame of each event and each quarantined message is, in their order.
        events: how many of each kind.
        quarantined: how many for each reason.
        records: messages in the record topics, by collection.
        minutes: record messages as analytics counted them, by minute and collection; the valid
            counts of each key.
        admitted: the collections that have topics of their own.
        repos: every repository.
        sample: a record message.
    """

    frames: set[Frame] = field(default_factory=set)
    last_seq: int = 0
    judged: list[Frame] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)
    minutes: Counter[tuple[str, str]] = field(default_factory=Counter)
    admitted: tuple[str, ...] = ()
    repos: dict[Did, HeldRepo] = field(default_factory=dict)
    sample: Record | None = None


def read_outcome(kafka: KafkaConfig, sample_collection: str) -> Outcome:
    """Reads the topics of a run that has ended.

    Args:
        kafka: the cluster and the prefix of the topics.
        sample_collection: of the record to keep as a sample.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    outcome = Outcome()
    _read_messages(kafka, sample_collection, outcome)
    known, admissions = deployed(kafka)
    outcome.admitted = known.admitted_collections
    topics = output_topics(kafka, known, admissions)
    for partition in range(check_partitions(kafka, ["repos"])["repos"]):
        with read_partition(kafka, topics, partition) as reading:
            audits = {audit.did: audit for audit in reading.audit(list(reading.dids()))}
            for did, audit in audits.items():
                state = reading.repo(did)
                assert state is not None
                records = {path: encode_cid(cid) for path, cid in reading.records(did)}
                outcome.repos[did] = HeldRepo(state, records, audit)
    return outcome


def _read_messages(kafka: KafkaConfig, sample_collection: str, outcome: Outcome) -> None:
    frames, events, quarantine, minutes = map(
        kafka.topic, ("frames", "events", "quarantine", "minutes")
    )
    records = [kafka.topic(topic) for topic in deployed(kafka)[0].specs["records"].topics]
    counted: dict[bytes | None, tuple[str, str, int]] = {}
    for message in read_to_end(kafka, [frames, events, quarantine, minutes, *records]):
        value = message.value or b""
        if message.topic == frames:
            outcome.frames.add((message.partition, message.offset))
            seq = parse_frame_headers(message.headers)["seq"]
            outcome.last_seq = max(outcome.last_seq, seq)
        elif message.topic == events:
            event = parse_event(value)
            outcome.events[event["kind"]] += 1
            outcome.judged.append((event["frame_partition"], event["frame_offset"]))
        elif message.topic == quarantine:
            outcome.quarantined[parse_quarantine_headers(message.headers)["q.reason"]] += 1
        elif message.topic == minutes:
            count = parse_minute(value)
            operations = count["creates"] + count["updates"] + count["deletes"]
            # A count is written again and again while its minute lasts: the last one is valid.
            counted[message.key] = (count["minute"], count["collection"], operations)
        else:
            collection = parse_record_headers(message.headers)["collection"]
            outcome.records[collection] += 1
            if collection == sample_collection:
                outcome.sample = parse_record(value)
    for minute, collection, operations in counted.values():
        outcome.minutes[minute, collection] += operations
