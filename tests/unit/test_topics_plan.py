"""Comparing a cluster with the registry, without a cluster."""

import dataclasses

import pytest
from support.admissions import PACKAGED

from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.kafka import admin
from pipelines.kafka.admin import Cluster, ConfigDifference, ExistingTopic, PartitionsDifference
from pipelines.kafka.topics import registry

KAFKA = KafkaConfig(topic_prefix="p")


def cluster(brokers_count: int = 1, partitions: int = 4, replication_factor: int = 1) -> Cluster:
    """Returns a cluster that is as `apply` leaves it."""
    in_sync = {"min.insync.replicas": str(max(1, replication_factor - 1))}
    return Cluster(
        brokers_count,
        {
            topic.name: ExistingTopic(
                topic.partitions, replication_factor, {**topic.configs, **in_sync}
            )
            for topic in registry().physical_topics(KAFKA, partitions)
        },
    )


def changed(base: Cluster, **topics: ExistingTopic | None) -> Cluster:
    """Returns the cluster with other topics; None removes one. `_` stands for `.`."""
    result = dict(base.topics)
    for name, topic in topics.items():
        physical = f"p.{name.replace('_', '.')}"
        if topic is None:
            del result[physical]
        else:
            result[physical] = topic
    return Cluster(base.brokers_count, result)


def compare(
    found: Cluster, partitions: int | None = None, replication_factor: int | None = None
) -> admin.Plan:
    return admin.compare(KAFKA, found, PACKAGED, partitions, replication_factor)


def test_an_empty_cluster_gets_every_topic() -> None:
    plan = compare(Cluster(1, {"somebody.elses": ExistingTopic(1, 1, {})}))
    assert len(plan.create) == len(registry().topics)
    assert plan.has_changes
    assert (plan.partitions, plan.replication_factor) == (4, 1)
    assert (plan.alter, plan.refused, plan.foreign, plan.equal) == ((), (), (), ())
    frames = next(topic for topic in plan.create if topic.name == "p.frames")
    assert frames.partitions == 4
    assert frames.configs["retention.ms"] == "259200000"


def test_a_cluster_as_it_should_be_leaves_nothing_to_do() -> None:
    plan = compare(cluster())
    assert not plan.has_changes
    assert not plan.refused
    assert len(plan.equal) == len(registry().topics)


@pytest.mark.parametrize(
    ("brokers_count", "replication_factor", "in_sync"),
    [(1, 1, 1), (2, 2, 1), (3, 3, 2), (9, 3, 2)],
)
def test_replicas_follow_the_number_of_brokers(
    brokers_count: int, replication_factor: int, in_sync: int
) -> None:
    plan = compare(Cluster(brokers_count, {}))
    assert plan.replication_factor == replication_factor
    assert {topic.configs["min.insync.replicas"] for topic in plan.create} == {str(in_sync)}


def test_more_replicas_than_brokers_are_refused() -> None:
    with pytest.raises(ConfigError, match="lower --replication-factor or add brokers"):
        compare(Cluster(2, {}), replication_factor=3)


def test_existing_topics_keep_their_replicas() -> None:
    plan = compare(cluster(brokers_count=5, replication_factor=1), replication_factor=5)
    assert not plan.has_changes


def test_only_the_setting_that_differs_is_altered() -> None:
    base = cluster()
    frames = base.topics["p.frames"]
    configs = {**frames.configs, "retention.ms": "1000", "flush.ms": "7"}
    plan = compare(changed(base, frames=dataclasses.replace(frames, configs=configs)))
    assert plan.alter == (ConfigDifference("p.frames", "retention.ms", "1000", "259200000"),)
    assert plan.has_changes
    assert "p.frames" not in plan.equal


def test_a_setting_that_the_broker_does_not_know_is_shown_as_none() -> None:
    base = cluster()
    frames = base.topics["p.frames"]
    configs = dict(frames.configs)
    del configs["message.timestamp.after.max.ms"]
    plan = compare(changed(base, frames=dataclasses.replace(frames, configs=configs)))
    assert [(change.name, change.have) for change in plan.alter] == [
        ("message.timestamp.after.max.ms", None)
    ]


def test_the_common_count_is_that_of_frames() -> None:
    plan = compare(changed(cluster(partitions=6), events=None))
    assert plan.partitions == 6
    assert [(topic.name, topic.partitions) for topic in plan.create] == [("p.events", 6)]


def test_another_count_is_refused_for_every_topic_that_has_the_old_one() -> None:
    plan = compare(cluster(partitions=4), partitions=8)
    assert PartitionsDifference("p.frames", 4, 8) in plan.refused
    assert len(plan.refused) == len(registry().topics) - 7
    assert set(plan.equal) == {
        f"p.{name}"
        for name in ("admissions", "crawls", "cursors", "epochs", "gaps", "listings", "status")
    }


def test_a_count_that_is_always_the_same_is_refused_too() -> None:
    base = cluster()
    cursors = dataclasses.replace(base.topics["p.cursors"], partitions=3)
    plan = compare(changed(base, cursors=cursors))
    assert plan.refused == (PartitionsDifference("p.cursors", 3, 1),)


def test_a_refused_plan_is_not_applied_in_part() -> None:
    plan = compare(changed(cluster(), events=None), partitions=8)
    assert plan.create
    with pytest.raises(ConfigError, match=r"p\.frames has 4 partitions, wanted 8.*--topic-prefix"):
        admin.apply(plan)


def test_foreign_topics_with_our_prefix_are_named() -> None:
    base = cluster()
    topics = {**base.topics, "p.raw": ExistingTopic(1, 1, {}), "px.raw": ExistingTopic(1, 1, {})}
    plan = compare(Cluster(1, topics))
    assert plan.foreign == ("p.raw",)
    assert not plan.has_changes
