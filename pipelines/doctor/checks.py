"""All checks over one snapshot. Pure."""

from collections.abc import Callable
from typing import TypeVar

from pipelines.doctor import cluster, surroundings, topics, traffic
from pipelines.doctor.findings import Check, Finding, Judgement, Result, Unknown
from pipelines.doctor.snapshot import Snapshot

T = TypeVar("T")


def examine(seen: Snapshot) -> list[Finding]:
    """Makes every check.

    Args:
        seen: what was looked at. A check of something unknown is skipped.

    Returns:
        One finding for each check, in their order.
    """
    judgements = {
        Check.BROKER_REACHABLE: cluster.judge_access(seen.access),
        Check.BROKER_VERSION: _judge(seen.metadata_versions, cluster.judge_versions),
        Check.BROKER_SETTINGS: _judge(seen.cluster, cluster.judge_settings),
        Check.MESSAGES_SIZE: _judge(seen.cluster, cluster.judge_sizes),
        Check.TOPICS_MISSING: _judge(seen.cluster, topics.judge_missing),
        Check.TOPICS_PARTITIONS: _judge(seen.cluster, topics.judge_partitions),
        Check.TOPICS_SETTINGS: _judge(seen.cluster, topics.judge_settings),
        Check.TOPICS_REPLICAS: _judge(seen.copies, topics.judge_replicas),
        Check.TOPICS_FOREIGN: _judge(seen.cluster, topics.judge_foreign),
        Check.TOPICS_ADMISSION: _judge(seen.cluster, topics.judge_admission),
        Check.TRANSACTIONS_HANGING: _judge(seen.traffic, traffic.judge_transactions),
        Check.READERS_ISOLATION: _judge(seen.traffic, traffic.judge_readers),
        Check.GROUPS_STUCK: _judge(seen.traffic, traffic.judge_stuck),
        Check.GROUPS_RETENTION: _judge(seen.traffic, traffic.judge_retention),
        Check.PROCESSES_ALIVE: _judge(seen.overview, surroundings.judge_processes),
        Check.CLOCKS_SKEW: _judge(seen.clocks, surroundings.judge_clocks),
        Check.DISKS_SPACE: surroundings.judge_disks(seen.disks),
        Check.DIRECTORY_REACHABLE: surroundings.judge_directory(seen.directory),
    }
    return [Finding(check, judgements[check]) for check in Check]


def _judge(part: T | Unknown, judge: Callable[[T], Judgement]) -> Judgement:
    if isinstance(part, Unknown):
        return Judgement(Result.SKIPPED, part.why)
    return judge(part)
