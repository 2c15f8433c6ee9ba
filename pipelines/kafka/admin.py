"""The cluster's topics: compared with the registry, brought in line with it, checked at start.

Nothing here deletes a topic, changes a number of partitions or touches a topic that the registry
does not name. A changed number would move accounts to other partitions and break their order, so
such a difference is refused; the remedy is a new generation of topics under another prefix, and a
replay.

Settings that the registry does not list are left as they are, except `min.insync.replicas`, which
follows from the replication factor: with three replicas a write is acknowledged by two, so that
one broker can be lost without losing a message or stopping.
"""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # no explicit re-exports
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError, ConfigError
from pipelines.kafka.admission import TOPIC as TABLES
from pipelines.kafka.admission import Admissions
from pipelines.kafka.admitting import admit, check_nobody_works, configured, load_admissions
from pipelines.kafka.clients import is_passing
from pipelines.kafka.topics import PhysicalTopic, Registry, registry

DEFAULT_PARTITIONS_COUNT: Final = 4
# A stage uses at most one worker per partition. Kafka itself refuses a topic of some 10,000.
MAX_PARTITIONS_COUNT: Final = 1_000
DEFAULT_REPLICATION_FACTOR: Final = 3  # where the cluster has that many brokers

# librdkafka keeps trying for this long even if every connection is refused at once, and a person
# waits for "no broker answers".
CONNECT_TIMEOUT_S: Final = 5.0
# One change, on a controller that is busy or just being elected.
REQUEST_TIMEOUT_S: Final = 10.0
# The controller confirms a change before every broker knows it: how long we look for it.
SETTLE_TIMEOUT_S: Final = 30.0
_SETTLE_PAUSE_S: Final = 0.1

PARTITIONS_REMEDY: Final = (
    "the number of partitions is fixed when a topic is created; leave out --partitions to keep "
    "it, or make a new generation of topics with another --topic-prefix and replay into it"
)


@dataclass(frozen=True, slots=True)
class ExistingTopic:
    """A topic as it is on the cluster.

    Attributes:
        partitions: how many.
        replication_factor: replicas of each partition.
        configs: settings in effect; empty where they were not asked for.
    """

    partitions: int
    replication_factor: int
    configs: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a cluster says about itself.

    Attributes:
        brokers_count: how many brokers are up.
        topics: by physical name.
    """

    brokers_count: int
    topics: Mapping[str, ExistingTopic]


@dataclass(frozen=True, slots=True)
class ConfigDifference:
    """A setting that is not as the registry says; None is a setting the broker does not know."""

    topic: str
    name: str
    have: str | None
    want: str


@dataclass(frozen=True, slots=True)
class PartitionsDifference:
    """A number of partitions that is not as wanted, and that nothing may change."""

    topic: str
    have: int
    want: int

    def __str__(self) -> str:
        return f"{self.topic} has {_partitions(self.have)}, wanted {self.want}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What separates a cluster from the registry.

    Attributes:
        kafka: the cluster it was made for.
        brokers_count: brokers that are up.
        partitions: the common count of the topics that are partitioned by DID.
        replication_factor: of topics to be created; existing ones keep theirs.
        create: topics that are missing, with all their settings.
        alter: settings that differ.
        refused: numbers of partitions that differ.
        foreign: physical names with our prefix that the registry does not know; left alone.
        equal: physical names of topics that are as they should be.
        admissions: the tables of admitted collections that the deployment has.
        admit: the table that is to come into force; None if the right one is.
    """

    kafka: KafkaConfig
    brokers_count: int
    partitions: int
    replication_factor: int
    create: tuple[PhysicalTopic, ...]
    alter: tuple[ConfigDifference, ...]
    refused: tuple[PartitionsDifference, ...]
    foreign: tuple[str, ...]
    equal: tuple[str, ...]
    admissions: Admissions
    admit: tuple[str, ...] | None

    @property
    def has_changes(self) -> bool:
        """Whether there is something that `apply` would do."""
        return bool(self.create or self.alter or self.admit)


def plan(
    kafka: KafkaConfig, partitions: int | None = None, *, replication_factor: int | None = None
) -> Plan:
    """Compares a cluster with the registry.

    Args:
        kafka: the cluster and the prefix.
        partitions: the common count of topics that are partitioned by DID; None for the one that
            frames has, or `DEFAULT_PARTITIONS_COUNT` where there is none yet.
        replication_factor: of topics to be created; None for `DEFAULT_REPLICATION_FACTOR`, or
            less where there are fewer brokers.

    Raises:
        BrokerUnavailableError: no broker answers.
        ConfigError: the cluster refuses the request, or the settings do not fit it.
    """
    connection = _Connection(kafka)
    has_tables = kafka.topic(TABLES) in connection.observe().topics
    admissions = load_admissions(kafka) if has_tables else Admissions()
    cluster = connection.observe(map(kafka.topic, _known(kafka, admissions).topics))
    return compare(kafka, cluster, admissions, partitions, replication_factor)


def _known(kafka: KafkaConfig, admissions: Admissions) -> Registry:
    """Returns the registry with the topics of our table and of all tables before it."""
    ours = configured(kafka)
    return ours.admitting({*ours.admitted_collections, *admissions.ever})


def compare(
    kafka: KafkaConfig,
    cluster: Cluster,
    admissions: Admissions,
    partitions: int | None,
    replication_factor: int | None,
) -> Plan:
    """Does the work of `plan` for a cluster that was already observed, without a connection.

    Args:
        kafka: the cluster and the prefix, and our table of admitted collections.
        cluster: what it says.
        admissions: the tables that it has.
        partitions: as for `plan`, as is the next.
        replication_factor: of topics to be created.

    Raises:
        ConfigError: a topic name is too long, or there are fewer brokers than replicas.
    """
    if partitions is None:
        frames = cluster.topics.get(kafka.topic("frames"))
        partitions = frames.partitions if frames else DEFAULT_PARTITIONS_COUNT
    if replication_factor is None:
        replication_factor = min(cluster.brokers_count, DEFAULT_REPLICATION_FACTOR)
    elif replication_factor > cluster.brokers_count:
        raise ConfigError(
            f"{replication_factor} replicas need as many brokers, and the cluster has "
            f"{cluster.brokers_count}: lower --replication-factor or add brokers"
        )
    create: list[PhysicalTopic] = []
    alter: list[ConfigDifference] = []
    refused: list[PartitionsDifference] = []
    equal: list[str] = []
    wanted = _known(kafka, admissions).physical_topics(kafka, partitions)
    ours_admitted = configured(kafka).admitted_collections
    current = admissions.current
    is_in_force = current is not None and current.collections == ours_admitted
    for topic in wanted:
        existing = cluster.topics.get(topic.name)
        if existing is None:
            configs = _configs(topic, replication_factor)
            create.append(PhysicalTopic(topic.name, topic.partitions, configs))
            continue
        different = [
            ConfigDifference(topic.name, name, existing.configs.get(name), want)
            for name, want in _configs(topic, existing.replication_factor).items()
            if existing.configs.get(name) != want
        ]
        alter += different
        if existing.partitions != topic.partitions:
            refused.append(PartitionsDifference(topic.name, existing.partitions, topic.partitions))
        elif not different:
            equal.append(topic.name)
    ours = {topic.name for topic in wanted}
    prefix = kafka.topic("")
    return Plan(
        kafka=kafka,
        brokers_count=cluster.brokers_count,
        partitions=partitions,
        replication_factor=replication_factor,
        create=tuple(create),
        alter=tuple(alter),
        refused=tuple(refused),
        foreign=tuple(
            sorted(name for name in cluster.topics if name.startswith(prefix) and name not in ours)
        ),
        equal=tuple(equal),
        admissions=admissions,
        admit=None if is_in_force and admissions.announced is None else ours_admitted,
    )


def apply(plan: Plan) -> None:
    """Creates the missing topics and sets the settings that differ; returns when both show.

    Then it puts the table of admitted collections into force. A topic that somebody else created
    in the meantime is no error, unless it differs in what cannot be changed.

    Raises:
        BrokerUnavailableError: no broker answers, or the change did not show in time. What was
            done stays; the next run does the rest.
        ConfigError: the plan has refused differences, or changes the table while somebody works
            (nothing was changed then), or the cluster refuses a change.
    """
    _refuse(plan.refused)
    if plan.admit is not None and plan.admissions.current is not None:
        check_nobody_works(plan.kafka)
    if plan.create or plan.alter:
        _apply_topics(plan)
    if plan.admit is not None:
        admit(plan.kafka, plan.admit, plan.partitions)


def _apply_topics(plan: Plan) -> None:
    connection = _Connection(plan.kafka)
    connection.create(plan.create, plan.replication_factor)
    connection.alter(plan.alter)
    changed = {topic.name for topic in plan.create}
    changed |= {difference.topic for difference in plan.alter}
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        cluster = connection.observe(changed)
        left = compare(
            plan.kafka, cluster, plan.admissions, plan.partitions, plan.replication_factor
        )
        _refuse(left.refused)
        if changed <= set(left.equal):
            return
        if time.monotonic() > deadline:
            raise BrokerUnavailableError(
                f"the cluster at {plan.kafka.bootstrap_servers} accepted the changes but does not "
                f"show them after {SETTLE_TIMEOUT_S:.0f} s; look at its log, then run "
                "`standpipe topics plan`"
            )
        time.sleep(_SETTLE_PAUSE_S)


def check_partitions(
    kafka: KafkaConfig, topics: Iterable[str], known: Registry | None = None
) -> dict[str, int]:
    """Makes sure, at the start of a stage, that the topics it uses exist and fit together.

    Args:
        kafka: the cluster and the prefix.
        topics: logical names.
        known: the registry that has them; that of the package by default.

    Returns:
        The number of partitions by logical name. All that are partitioned by DID have the same.

    Raises:
        BrokerUnavailableError: no broker answers.
        ConfigError: a topic is missing, or counts differ.
        LookupError: a name is not in the registry.
    """
    entries = (known or registry()).topics
    specs = {topic: entries[topic] for topic in topics}
    existing = _Connection(kafka).observe().topics
    problems: list[str] = []
    counts: dict[str, int] = {}
    for topic, spec in specs.items():
        found = existing.get(kafka.topic(topic))
        if found is None:
            problems.append(
                f"there is no topic {kafka.topic(topic)} at {kafka.bootstrap_servers}: "
                "create it with `standpipe topics apply`"
            )
            continue
        counts[topic] = found.partitions
        if spec.partitions is not None and found.partitions != spec.partitions:
            problems.append(
                f"{PartitionsDifference(kafka.topic(topic), found.partitions, spec.partitions)}: "
                f"{PARTITIONS_REMEDY}"
            )
    shared = {topic: count for topic, count in counts.items() if specs[topic].partitions is None}
    if len(set(shared.values())) > 1:
        listed = ", ".join(
            f"{kafka.topic(topic)} has {count}" for topic, count in sorted(shared.items())
        )
        problems.append(
            "topics that are partitioned by DID must have the same number of partitions, but "
            f"{listed}: {PARTITIONS_REMEDY}"
        )
    if problems:
        raise ConfigError(*problems)
    return counts


def topic_ids(kafka: KafkaConfig, topics: Iterable[str]) -> dict[str, str]:
    """Returns the cluster's ids of topics: one that was deleted and made anew has another.

    Args:
        kafka: the cluster.
        topics: physical names.

    Raises:
        BrokerUnavailableError: no broker answers.
        ConfigError: there is no such topic.
    """
    return _Connection(kafka).topic_ids(topics)


def tombstone_life_ms(kafka: KafkaConfig, topics: Iterable[str]) -> int:
    """Returns for how long nulls are kept at least, by the settings in effect.

    Args:
        kafka: the cluster.
        topics: physical names of compacted topics, which exist.

    Returns:
        The shortest `delete.retention.ms` of the topics, milliseconds.

    Raises:
        BrokerUnavailableError: no broker answers.
        ConfigError: the cluster refuses to tell.
    """
    wanted = list(topics)
    found = _Connection(kafka).observe(wanted).topics
    return min(int(found[topic].configs["delete.retention.ms"] or 0) for topic in wanted)


def _refuse(differences: Iterable[PartitionsDifference]) -> None:
    listed = ", ".join(map(str, differences))
    if listed:
        raise ConfigError(f"{listed}: {PARTITIONS_REMEDY}")


def _configs(topic: PhysicalTopic, replication_factor: int) -> dict[str, str]:
    in_sync = max(1, replication_factor - 1)
    return {**topic.configs, "min.insync.replicas": str(in_sync)}


def _partitions(count: int) -> str:
    return "1 partition" if count == 1 else f"{count} partitions"


class _Connection:
    """An admin client that speaks in our types and errors; the one place that knows librdkafka's.

    Every method raises BrokerUnavailableError when no broker answers in time, and ConfigError
    when the cluster refuses.
    """

    def __init__(self, kafka: KafkaConfig) -> None:
        self._servers = kafka.bootstrap_servers
        self._last_error: str | None = None
        settings: dict[str, Any] = {
            "log_level": 0,  # otherwise librdkafka writes each failed attempt to stderr
            **kafka.options,
            "bootstrap.servers": kafka.bootstrap_servers,
            "error_cb": self._remember,
        }
        try:
            self._client = AdminClient(settings)
        except KafkaException as error:
            raise ConfigError(f"the [kafka] settings do not work: {error.args[0].str()}") from None

    def observe(self, described: Iterable[str] = ()) -> Cluster:
        """Reads brokers and topics.

        Args:
            described: physical names whose settings are wanted, where they exist.
        """
        try:
            metadata = self._client.list_topics(timeout=CONNECT_TIMEOUT_S)
        except KafkaException as error:
            raise self._translated(error, "list topics") from None
        resources = [
            ConfigResource(ResourceType.TOPIC, name)
            for name in described
            if name in metadata.topics
        ]
        configs: dict[str, dict[str, str | None]] = {}
        if resources:
            futures = self._client.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
            for resource, future in futures.items():
                entries = self._result(future, f"describe the topic {resource.name}")
                configs[resource.name] = {name: entry.value for name, entry in entries.items()}
        return Cluster(
            brokers_count=len(metadata.brokers),
            topics={
                name: ExistingTopic(
                    partitions=len(topic.partitions),
                    replication_factor=max(
                        (len(partition.replicas) for partition in topic.partitions.values()),
                        default=0,
                    ),
                    configs=configs.get(name, {}),
                )
                for name, topic in metadata.topics.items()
            },
        )

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Reads the ids of topics (KIP-516)."""
        futures = self._client.describe_topics(
            TopicCollection(list(topics)), request_timeout=REQUEST_TIMEOUT_S
        )
        return {
            name: str(self._result(future, f"describe the topic {name}").topic_id)
            for name, future in futures.items()
        }

    def create(self, topics: Iterable[PhysicalTopic], replication_factor: int) -> None:
        """Creates topics; one that exists already is left as it is."""
        # One request per topic: the controller limits the partitions of one request, and would
        # refuse all topics of a request for it. All are under way before the first is awaited.
        futures: dict[str, Future[None]] = {}
        for topic in topics:
            new = NewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=replication_factor,
                config=dict(topic.configs),
            )
            futures |= self._client.create_topics(
                [new], operation_timeout=REQUEST_TIMEOUT_S, request_timeout=REQUEST_TIMEOUT_S
            )
        for name, future in futures.items():
            self._result(
                future, f"create the topic {name}", harmless=KafkaError.TOPIC_ALREADY_EXISTS
            )

    def alter(self, differences: Iterable[ConfigDifference]) -> None:
        """Sets single settings; all others of the topics stay as they are."""
        entries: dict[str, list[ConfigEntry]] = {}
        for difference in differences:
            entries.setdefault(difference.topic, []).append(
                ConfigEntry(
                    difference.name,
                    difference.want,
                    incremental_operation=AlterConfigOpType.SET,
                )
            )
        if not entries:
            return
        futures = self._client.incremental_alter_configs(
            [
                ConfigResource(ResourceType.TOPIC, name, incremental_configs=changes)
                for name, changes in entries.items()
            ],
            request_timeout=REQUEST_TIMEOUT_S,
        )
        for resource, future in futures.items():
            self._result(future, f"change the topic {resource.name}")

    def _result(self, future: Future[Any], action: str, *, harmless: int | None = None) -> Any:
        try:
            # The request has its own limit; this one is for a client that never calls back.
            return future.result(timeout=2 * REQUEST_TIMEOUT_S)
        except TimeoutError:
            raise self._unavailable("no answer to a request") from None
        except KafkaException as error:
            if error.args[0].code() == harmless:
                return None
            raise self._translated(error, action) from None

    def _translated(self, exception: KafkaException, action: str) -> Exception:
        error: KafkaError = exception.args[0]
        if is_passing(error):
            return self._unavailable(error.str())
        return ConfigError(f"the cluster at {self._servers} does not {action}: {error.str()}")

    def _unavailable(self, why: str) -> BrokerUnavailableError:
        self._client.poll(0)  # delivers pending calls of _remember
        return BrokerUnavailableError(
            f"no Kafka broker answers at {self._servers}; start one with `standpipe kafka start` "
            f"or name another with --bootstrap-servers ({self._last_error or why})"
        )

    def _remember(self, error: KafkaError) -> None:
        # "All brokers down" follows the errors that say why.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - librdkafka's own code
            self._last_error = error.str()
