"""What was seen of a deployment: what the checks judge. Values only.

A part that could not be looked at is `Unknown`, with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pipelines.doctor.findings import Unknown
from pipelines.kafka.admin import Plan
from pipelines.kafka.lag import Lag
from pipelines.kafka.messages import Position
from pipelines.status.overview import Overview


@dataclass(frozen=True, slots=True)
class Server:
    """An address of the cluster, tried from this machine.

    Attributes:
        address: `host:port`.
        is_bootstrap: whether we were told it; else the cluster sends its clients there.
        problem: why nobody can connect to it; None if we could.
    """

    address: str
    is_bootstrap: bool
    problem: str | None


@dataclass(frozen=True, slots=True)
class Access:
    """Whether the cluster answers.

    Attributes:
        servers: its addresses.
        failure: what a request failed with; None if it was answered.
    """

    servers: tuple[Server, ...]
    failure: str | None


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker and the settings in effect there, as Kafka spells them."""

    name: str
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Brokers, and what separates the topics from the registry."""

    brokers: tuple[Broker, ...]
    plan: Plan


@dataclass(frozen=True, slots=True)
class Replicas:
    """The copies of one partition.

    Attributes:
        topic: physical name; internal topics of Kafka, too.
        partition: its number.
        has_leader: whether anybody serves it.
        count: copies that it should have.
        in_sync_count: copies that are up to date.
    """

    topic: str
    partition: int
    has_leader: bool
    count: int
    in_sync_count: int


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies of partitions, and how many brokers are up to hold them."""

    brokers_count: int
    partitions: tuple[Replicas, ...]


class Ends(NamedTuple):
    """Where a partition ends: for readers of committed messages, and in truth."""

    stable: int
    high: int


@dataclass(frozen=True, slots=True)
class Look:
    """Partitions and groups at one moment.

    Attributes:
        positions: where groups go on reading, by group; read before the ends.
        ends: of every partition of the deployment.
    """

    positions: Mapping[str, Mapping[Position, int]]
    ends: Mapping[Position, Ends]


@dataclass(frozen=True, slots=True)
class Group:
    """One of the deployment's own consumer groups.

    Attributes:
        stage: whose it is.
        members_count: processes that take part now.
        lag: how far it is behind, at the last look.
        retention_ms: how long its inputs keep a message; None for ever.
        starts: offset of the first message that there still is, by partition.
    """

    stage: str
    members_count: int
    lag: Lag
    retention_ms: int | None
    starts: Mapping[Position, int]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What moved while we watched.

    Attributes:
        first: at the beginning.
        last: at the end.
        watched_s: how long it was in between; short where nothing was suspicious.
        groups: by name. Those in `first` and `last` that are missing here are of others.
    """

    first: Look
    last: Look
    watched_s: float
    groups: Mapping[str, Group]


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock compared with that of the broker.

    Attributes:
        name: of the process or machine.
        ahead_s: how far it is ahead; negative if it is behind.
    """

    name: str
    ahead_s: float


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder of local stores, and the disk it is on.

    Attributes:
        folder: the path.
        problem: why it cannot be used; None if it can.
        free_bytes: what is left for us.
        total_bytes: size of the disk.
    """

    folder: str
    problem: str | None
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Directory:
    """Who knows the identities.

    Attributes:
        url: its address.
        problem: why it does not answer; None if it does.
        seconds: how long the answer took.
    """

    url: str
    problem: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that was looked at.

    Attributes:
        access: whether the cluster answers.
        metadata_versions: highest metadata version that each broker knows, by its address.
        cluster: brokers and topics.
        copies: of the deployment's partitions and of Kafka's own.
        traffic: what moved.
        overview: what `standpipe status` shows.
        clocks: of the processes.
        disks: of this machine.
        directory: who knows the identities.
    """

    access: Access
    metadata_versions: Mapping[str, int] | Unknown
    cluster: Cluster | Unknown
    copies: Copies | Unknown
    traffic: Traffic | Unknown
    overview: Overview | Unknown
    clocks: tuple[Clock, ...] | Unknown
    disks: tuple[Disk, ...]
    directory: Directory
