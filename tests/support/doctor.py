"""Deployments as the doctor sees them: one that is sound, to be broken in a test."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from support.admissions import PACKAGED

from pipelines.config import KafkaConfig
from pipelines.doctor.snapshot import (
    Access,
    Broker,
    Clock,
    Cluster,
    Copies,
    Directory,
    Disk,
    Ends,
    Group,
    Look,
    Replicas,
    Server,
    Snapshot,
    Traffic,
)
from pipelines.kafka import admin
from pipelines.kafka.lag import Lag
from pipelines.kafka.topics import registry
from pipelines.status.history import History
from pipelines.status.overview import look

KAFKA = KafkaConfig("127.0.0.1:9092", "atproto")
PARTITIONS = 4
FRAMES = (KAFKA.topic("frames"), 0)
GROUP = KAFKA.group("explode")

# As a broker of Kafka 4.2 has them by default, but for the last.
SETTINGS = {
    "transaction.max.timeout.ms": "900000",
    "group.min.session.timeout.ms": "6000",
    "group.max.session.timeout.ms": "1800000",
    "unclean.leader.election.enable": "false",
    "offsets.retention.minutes": "10080",
    "socket.request.max.bytes": "104857600",
    "replica.fetch.max.bytes": "17825792",
    "auto.create.topics.enable": "false",
}


def existing_topics() -> dict[str, admin.ExistingTopic]:
    """Returns the topics of the registry as they should be, by physical name."""
    return {
        topic.name: admin.ExistingTopic(
            topic.partitions, 1, {**topic.configs, "min.insync.replicas": "1"}
        )
        for topic in registry().physical_topics(KAFKA, PARTITIONS)
    }


def cluster_of(
    topics: Mapping[str, admin.ExistingTopic],
    brokers_count: int = 1,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Cluster:
    """Returns a cluster with these topics.

    Args:
        topics: by physical name.
        brokers_count: how many brokers it has.
        settings: of each broker, where they are not `SETTINGS`.
    """
    seen = admin.Cluster(brokers_count, topics)
    return Cluster(
        tuple(Broker(f"broker {n + 1}", {**SETTINGS, **settings}) for n in range(brokers_count)),
        admin.compare(KAFKA, seen, PACKAGED, None, None),
    )


def changed(topic: str, **changes: Any) -> dict[str, admin.ExistingTopic]:
    """Returns sound topics but for one.

    Args:
        topic: its logical name.
        changes: `partitions`, or settings with `_` for `.`; None takes one away.
    """
    topics = existing_topics()
    name = KAFKA.topic(topic)
    partitions = changes.pop("partitions", topics[name].partitions)
    settings = {key.replace("_", "."): value for key, value in changes.items()}
    topics[name] = replace(
        topics[name], partitions=partitions, configs={**topics[name].configs, **settings}
    )
    return topics


def traffic_of(
    first: tuple[int, int, int] = (0, 10, 10),
    last: tuple[int, int, int] = (10, 20, 20),
    **group: Any,
) -> Traffic:
    """Returns what was seen of one partition and one group.

    Args:
        first: position of the group, end for readers of committed messages, true end.
        last: the same, later.
        group: what is special about the group.
    """

    def look(at: int, stable: int, high: int) -> Look:
        return Look({GROUP: {FRAMES: at}}, {FRAMES: Ends(stable, high)})

    usual = Group("explode", 1, Lag(10, is_exact=True, seconds=1.0), 259_200_000, {FRAMES: 0})
    return Traffic(look(*first), look(*last), 25.0, {GROUP: replace(usual, **group)})


def snapshot(**parts: Any) -> Snapshot:
    """Returns a look at a sound deployment but for some parts."""
    sound = Snapshot(
        access=Access(
            (
                Server("127.0.0.1:9092", is_bootstrap=True, problem=None),
                Server("127.0.0.1:9092", is_bootstrap=False, problem=None),
            ),
            None,
        ),
        metadata_versions={"127.0.0.1:9092": 29},
        cluster=cluster_of(existing_topics()),
        copies=Copies(1, (Replicas("atproto.frames", 0, True, 1, 1),)),
        traffic=traffic_of(),
        overview=replace(look(History(), {}, 1_795_360_000_000_000), problems=[]),
        clocks=(Clock("explode.0 on one", -0.01),),
        disks=(Disk("/var/lib/standpipe", None, 50 * 2**30, 100 * 2**30),),
        directory=Directory("https://plc.directory", None, 0.1),
    )
    return replace(sound, **parts)
