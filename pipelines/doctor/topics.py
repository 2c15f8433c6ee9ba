"""Checks of topics: as the registry says, with all copies. Pure."""

from collections.abc import Iterable

from pipelines.doctor.findings import Judgement, Result, counted, fine
from pipelines.doctor.snapshot import Cluster, Copies, Replicas
from pipelines.kafka.admin import DEFAULT_REPLICATION_FACTOR
from pipelines.kafka.admission import difference

# Settings on which it depends whether anything is lost; others cost disk or time.
_VITAL_SETTINGS = frozenset(
    {
        "cleanup.policy",
        "delete.retention.ms",
        "max.message.bytes",
        "message.timestamp.before.max.ms",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "retention.bytes",
        "retention.ms",
    }
)


def judge_missing(cluster: Cluster) -> Judgement:
    """Judges whether each topic of the registry exists."""
    plan = cluster.plan
    count = len(plan.create)
    if not count:
        return fine("all topics of the registry exist")
    return Judgement(
        Result.WRONG,
        f"{counted(count, 'topic')} of the registry missing",
        tuple(topic.name for topic in plan.create),
        "`standpipe topics apply` creates them; stages refuse to start without",
    )


def judge_partitions(cluster: Cluster) -> Judgement:
    """Judges whether topics have the partitions that they should have, and all the same."""
    plan = cluster.plan
    if not plan.refused:
        return fine(f"{plan.partitions} partitions in each topic that is partitioned by DID")
    return Judgement(
        Result.WRONG,
        f"{counted(len(plan.refused), 'topic')} with another number of partitions than is right",
        tuple(str(difference) for difference in plan.refused),
        "stages that use them refuse to start; delete a topic that is empty and run `standpipe "
        "topics apply`, else make a new generation of topics with another --topic-prefix",
    )


def judge_settings(cluster: Cluster) -> Judgement:
    """Judges whether topics have the settings of the registry."""
    different = cluster.plan.alter
    if not different:
        return fine(
            f"settings of {counted(len(cluster.plan.equal), 'topic')} as the registry says"
        )
    is_vital = any(difference.name in _VITAL_SETTINGS for difference in different)
    topics_count = len({difference.topic for difference in different})
    return Judgement(
        Result.WRONG if is_vital else Result.WARNING,
        f"{counted(len(different), 'setting')} of "
        f"{counted(topics_count, 'topic')} not as the registry says",
        tuple(
            f"{difference.topic}: {difference.name} is {difference.have}, should be "
            f"{difference.want}"
            for difference in different
        ),
        "`standpipe topics apply` sets them; what retention or compaction has removed in the "
        "meantime does not come back",
    )


def judge_foreign(cluster: Cluster) -> Judgement:
    """Judges whether there are topics with our prefix that the registry does not know."""
    foreign = cluster.plan.foreign
    if not foreign:
        return fine(f"no other topics begin with {cluster.plan.kafka.topic('')}")
    return Judgement(
        Result.WARNING,
        f"{counted(len(foreign), 'topic')} beginning with {cluster.plan.kafka.topic('')} and not "
        "in the registry",
        foreign,
        "a stage of another version may write them: run the same version everywhere; what nobody "
        "writes any more can be deleted with Kafka's tools",
    )


def judge_admission(cluster: Cluster) -> Judgement:
    """Judges whether our table of admitted collections is that of the deployment."""
    plan = cluster.plan
    current, announced = plan.admissions.current, plan.admissions.announced
    if announced is not None:
        return Judgement(
            Result.WRONG,
            f"a change to table {announced.number} of admitted collections was not ended",
            (difference(current.collections if current else (), announced.collections),),
            "`standpipe topics apply` ends it, or takes it back with the old --admit; no worker "
            "starts before",
        )
    if current is None:
        return Judgement(
            Result.WRONG,
            "nobody has said which collections have topics of their own",
            (),
            "`standpipe topics apply` does; no worker starts before",
        )
    if plan.admit is not None:
        return Judgement(
            Result.WRONG,
            f"our table of admitted collections is not table {current.number} of the deployment",
            (difference(current.collections, plan.admit),),
            "use the --admit and the version that its workers have; or stop explode, compact and "
            "analytics, run `standpipe topics apply`, and start them with ours",
        )
    return fine(
        f"table {current.number}, which is ours: {len(current.collections)} collections have "
        "topics of their own"
    )


def judge_replicas(copies: Copies) -> Judgement:
    """Judges whether each partition is served, and has the copies that it should have."""
    replicas, brokers_count = copies.partitions, copies.brokers_count
    headless = [found for found in replicas if not found.has_leader]
    behind = [found for found in replicas if found.in_sync_count < found.count]
    few = [
        found
        for found in replicas
        if brokers_count >= DEFAULT_REPLICATION_FACTOR and found.count < DEFAULT_REPLICATION_FACTOR
    ]
    if headless:
        return Judgement(
            Result.WRONG,
            f"{len(headless)} of {counted(len(replicas), 'partition')} without a leader: nobody "
            "can read or write them",
            _names(headless),
            "start the brokers that have their copies; the brokers' logs say what keeps them down",
        )
    if behind:
        return Judgement(
            Result.WARNING,
            f"{len(behind)} of {counted(len(replicas), 'partition')} with copies "
            "that are not up to date",
            _names(behind),
            "a broker is down or slow: until it has caught up, one more loss stops the writers",
        )
    if few:
        return Judgement(
            Result.WARNING,
            f"{counted(len(few), 'partition')} with fewer than "
            f"{DEFAULT_REPLICATION_FACTOR} copies on "
            f"{brokers_count} brokers",
            _names(few),
            "a single broker can take them with it: move them to more brokers with "
            "kafka-reassign-partitions.sh",
        )
    return fine(f"{counted(len(replicas), 'partition')} with a leader and all copies")


def _names(replicas: Iterable[Replicas]) -> tuple[str, ...]:
    return tuple(
        f"{found.topic}:{found.partition} has {found.in_sync_count} of {found.count} copies"
        for found in replicas
    )
