"""Which topics an index reads, and which of their messages. Pure.

`repos` always: an account that is hidden or deleted has to be seen, whatever it wrote. For each
chosen collection the topic that its records go to, and those that they went to before: what does
not change stays there (`schemas/README.md`, "Collections with a topic of their own").
"""

from collections.abc import Collection
from dataclasses import dataclass

from pipelines.config import KafkaConfig
from pipelines.kafka.admission import Admissions
from pipelines.kafka.topics import OTHER


@dataclass(frozen=True, slots=True)
class Selection:
    """What is read.

    Attributes:
        repos: physical name of the topic of repositories.
        names: physical names of the topics of records, by the last part of their logical names.
        collections: those that are chosen, sorted; None for all.
        tables_count: how many tables of such collections there have been.
    """

    repos: str
    names: dict[str, str]
    collections: tuple[str, ...] | None
    tables_count: int

    @property
    def topics(self) -> tuple[str, ...]:
        """Physical names of all topics that are read."""
        return (self.repos, *self.names.values())

    def has(self, collection: str) -> bool:
        """Tells whether a collection is chosen."""
        return self.collections is None or collection in self.collections


def select(
    kafka: KafkaConfig, collections: Collection[str] | None, admissions: Admissions
) -> Selection:
    """Returns what an index of some collections has to read.

    Args:
        kafka: has the prefix.
        collections: NSIDs, compared exactly; None for all there are.
        admissions: all tables of the deployment.
    """
    if collections is None:
        homes = {*admissions.ever, OTHER}
    else:
        homes = {home for nsid in collections for home in admissions.homes_of(nsid)}
    return Selection(
        kafka.topic("repos"),
        {home: kafka.topic(f"latest.{home}") for home in sorted(homes)},
        None if collections is None else tuple(sorted(set(collections))),
        len(admissions.tables),
    )
