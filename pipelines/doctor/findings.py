"""What a check found. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Check(StrEnum):
    """The checks, in the order in which they are shown. `deploy/RUNBOOK.md` has one section each.

    `area.what`; never renamed.
    """

    BROKER_REACHABLE = "broker.reachable"
    BROKER_VERSION = "broker.version"
    BROKER_SETTINGS = "broker.settings"
    MESSAGES_SIZE = "messages.size"
    TOPICS_MISSING = "topics.missing"
    TOPICS_PARTITIONS = "topics.partitions"
    TOPICS_SETTINGS = "topics.settings"
    TOPICS_REPLICAS = "topics.replicas"
    TOPICS_FOREIGN = "topics.foreign"
    TOPICS_ADMISSION = "topics.admission"
    TRANSACTIONS_HANGING = "transactions.hanging"
    READERS_ISOLATION = "readers.isolation"
    GROUPS_STUCK = "groups.stuck"
    GROUPS_RETENTION = "groups.retention"
    PROCESSES_ALIVE = "processes.alive"
    CLOCKS_SKEW = "clocks.skew"
    DISKS_SPACE = "disks.space"
    DIRECTORY_REACHABLE = "directory.reachable"


class Result(StrEnum):
    """How a check came out.

    A warning is what works now and may not for long; wrong is what loses time or data now; what
    was skipped could not be looked at, and nothing is known of it.
    """

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one check says of what it was given.

    Attributes:
        result: how it came out.
        found: what there is, in a sentence with its numbers.
        details: the single things that are not as they should be; empty if all are.
        remedy: what to do; empty if there is nothing to do.
    """

    result: Result
    found: str
    details: tuple[str, ...] = ()
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A judgement and the check that it is of."""

    check: Check
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Unknown:
    """What stands in the place of something that could not be looked at.

    Attributes:
        why: for a person.
    """

    why: str


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Returns a number with its noun; the plural where it is not the noun with an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {plural or noun + 's'}"


def fine(found: str) -> Judgement:
    """Returns that all is as it should be."""
    return Judgement(Result.OK, found)


def worst(findings: Iterable[Finding]) -> Result:
    """Returns `WRONG` if anything is, else `WARNING` if there is one, else `OK`."""
    results = {finding.judgement.result for finding in findings}
    return next((bad for bad in (Result.WRONG, Result.WARNING) if bad in results), Result.OK)
