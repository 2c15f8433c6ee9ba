"""A recording as the pipeline leaves it in Kafka, worked out by its pure parts, without stages."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Producer
from support.admissions import PACKAGED
from support.frames import NOW_US
from support.recordings import load_recording

from pipelines.atproto.frames import parse_envelope
from pipelines.atproto.syntax import Did
from pipelines.compact.events import CommitEvent, parse_event
from pipelines.compact.outputs import OutputTopics, record_messages, repo_message
from pipelines.compact.reducer import reduce_event
from pipelines.compact.service import output_topics
from pipelines.compact.state import RepoState
from pipelines.config import KafkaConfig
from pipelines.explode.outputs import outputs_of
from pipelines.explode.service import output_topics as explode_topics
from pipelines.explode.sources import Source
from pipelines.kafka.messages import InputMessage, OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.topics import registry
from pipelines.verdict import judge_frame

# After the recording: no revision is from the future.
FIRST_US = NOW_US
HOST = "relay.example"


@dataclass
class Reduced:
    """What is in Kafka in the end.

    Attributes:
        topics: names of compact's topics.
        frames: what the bridge wrote.
        outputs: messages of `repos` and `latest.*`, in order.
        repos: final states.
    """

    topics: OutputTopics
    frames: list[OutputMessage] = field(default_factory=list)
    outputs: list[OutputMessage] = field(default_factory=list)
    repos: dict[Did, RepoState] = field(default_factory=dict)

    def latest(self) -> dict[str, OutputMessage]:
        """Returns the last message of every record that is there, by its at-uri."""
        found: dict[str, OutputMessage] = {}
        for output in self.outputs:
            if output.topic != self.topics.repos:
                assert output.key is not None
                found[output.key.decode()] = output
        return {uri: output for uri, output in found.items() if output.value is not None}


def reduce_recording(folder: Path, config: KafkaConfig, partitions: int) -> Reduced:
    """Works out what becomes of a recording.

    Args:
        folder: of the recording.
        config: for the names of topics.
        partitions: of every topic.
    """
    recording = load_recording(folder)
    explode = explode_topics(config, registry(), PACKAGED)
    reduced = Reduced(output_topics(config, registry(), PACKAGED))
    offsets: Counter[int] = Counter()
    for number, frame in enumerate(recording.frames):
        envelope = parse_envelope(frame)
        did = envelope.did or ""
        partition, received_us = partition_for(did, partitions), FIRST_US + number
        headers = [
            ("host", HOST.encode()),
            ("seq", b"%d" % (envelope.seq or 0)),
            ("kind", envelope.kind.encode()),
            ("received_us", b"%d" % received_us),
        ]
        where = (config.topic("frames"), partition)
        reduced.frames.append(
            OutputMessage(*where, did.encode(), frame, headers, received_us // 1000)
        )
        message = InputMessage(
            *where, offsets[partition], received_us // 1000, did.encode(), frame, headers
        )
        offsets[partition] += 1
        verdict = judge_frame(frame, recording.keys, received_us)
        for output in outputs_of(verdict, Source(HOST, received_us, message), explode):
            if output.topic == explode.events:
                _reduce(reduced, output.value or b"", partition)
    return reduced


def _reduce(reduced: Reduced, value: bytes, partition: int) -> None:
    event = parse_event(value)
    reduction = reduce_event(reduced.repos.get(event.did), event, 0)
    if reduction.state is None:
        return
    reduced.repos[event.did] = reduction.state
    reduced.outputs.append(repo_message(reduction.state, partition, reduced.topics))
    if isinstance(event, CommitEvent):
        reduced.outputs += record_messages(
            event.did, event.signed.rev, reduction.ops, event.source, partition, reduced.topics
        )


def write_messages(config: KafkaConfig, messages: list[OutputMessage]) -> None:
    """Writes messages into empty topics, so that the offsets are those that were counted."""
    producer = Producer({"bootstrap.servers": config.bootstrap_servers, "linger.ms": 5})
    for message in messages:
        producer.produce(
            message.topic,
            message.value,
            message.key,
            message.partition,
            headers=list(message.headers),
            timestamp=message.timestamp_ms,
        )
    assert producer.flush(60) == 0
