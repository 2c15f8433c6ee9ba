"""What is known of repositories before a crawl, and what it asked for."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from support.hosts import did

from pipelines.atproto.syntax import Tid, make_tid
from pipelines.bridge.gaps import Gap, GapReason, Place
from pipelines.bridge.messages import Batch, FoundGap, Outputs, StreamPosition, gaps_of
from pipelines.bridge.upstream import Origin
from pipelines.compact.events import Signed, Source
from pipelines.compact.outputs import repo_message
from pipelines.compact.service import output_topics
from pipelines.compact.state import Head, RepoState, Sync
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, check_partitions, plan
from pipelines.kafka.admitting import deployed
from pipelines.kafka.clients import create_producer
from pipelines.kafka.messages import OutputMessage, Position
from pipelines.kafka.partition import partition_for
from pipelines.kafka.reading import read_between, readable_log_ends
from pipelines.repair.requests import Request, parse_request

PARTITIONS = 3
NOW_US = 1_790_000_000_000_000
NOW_TIME = "2026-09-21T14:13:20Z"
OLD, NEW = make_tid(NOW_US - 1, 0), make_tid(NOW_US, 0)


TOPICS = (
    *("admissions", "frames", "events", "repos", "resyncs"),
    *("gaps", "crawls", "listings", "status"),
)


def create_topics(config: KafkaConfig) -> None:
    """Creates the topics that a crawl needs, and no others, which would take a while."""
    wanted = {config.topic(name) for name in TOPICS}
    everything = plan(config, PARTITIONS)
    create = tuple(topic for topic in everything.create if topic.name in wanted)
    apply(dataclasses.replace(everything, create=create))


def wait_readable(config: KafkaConfig, topic: str) -> dict[Position, int]:
    """Waits until all that was committed can be read; returns where it ends.

    A commit returns before its markers are written everywhere.
    """
    count = check_partitions(config, [topic])[topic]
    return readable_log_ends(config, [(config.topic(topic), number) for number in range(count)])


def synchronized(number: int, rev: Tid, host: str = "relay.example", **members: Any) -> RepoState:
    """A repository that is complete up to a revision, unless members say otherwise."""
    head = Head(Signed(rev, "bafy", "bafy"), "")
    source = Source(host, 1, None, NOW_US, 0, 0, None)
    state = RepoState(did(number), source, sync=Sync.SYNCHRONIZED, head=head, seen=head.signed)
    return dataclasses.replace(state, **members)


def write_repos(config: KafkaConfig, states: Sequence[RepoState]) -> None:
    """Writes states into `repos`, as compact does."""
    producer = create_producer(config, f"{config.topic_prefix}.compact")
    producer.init_transactions(20)
    producer.begin_transaction()
    topics = output_topics(config, *deployed(config))
    for state in states:
        message = repo_message(state, partition_for(state.did, PARTITIONS), topics)
        producer.produce(
            message.topic,
            message.value,
            message.key,
            message.partition,
            headers=list(message.headers),
        )
    producer.commit_transaction(20)
    wait_readable(config, "repos")


def gap_message(config: KafkaConfig, host: str, from_time: str | None = NOW_TIME) -> OutputMessage:
    """A gap as the bridge writes it."""
    outputs = Outputs(
        frames=config.topic("frames"),
        quarantine=config.topic("quarantine"),
        cursors=config.topic("cursors"),
        epochs=config.topic("epochs"),
        gaps=config.topic("gaps"),
        frames_partitions=1,
        quarantine_partitions=1,
    )
    gap = Gap(GapReason.JUMP, Place(1, from_time))
    found = FoundGap(Origin(host, 1), gap, StreamPosition(9, None, NOW_US + 5))
    (message,) = gaps_of(Batch([], [], [found], {}, {}), outputs, {0: 0})
    return message


def requests(config: KafkaConfig) -> list[Request]:
    """Returns what was asked for, each in its right place."""
    found = []
    ends = wait_readable(config, "resyncs")
    for message in read_between(config, dict.fromkeys(ends, 0), ends):
        assert message.value is not None
        request = parse_request(message.value)
        assert message.key == request.did.encode()
        assert message.partition == partition_for(request.did, PARTITIONS)
        found.append(request)
    return found


def asked(config: KafkaConfig) -> Counter[int]:
    """Returns how often each repository was asked for, by the number of its DID."""
    return Counter(int(request.did.split(":")[2].split(".")[0]) for request in requests(config))
