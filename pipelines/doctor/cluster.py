"""Checks of brokers: reachable, of a good version, with settings that fit ours. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from pipelines.doctor.findings import Judgement, Result, counted, fine
from pipelines.doctor.snapshot import Access, Cluster
from pipelines.kafka.clients import MAX_MESSAGE_BYTES, SESSION_TIMEOUT_MS, TRANSACTION_TIMEOUT_MS
from pipelines.kafka.topics import registry

# The metadata version that Kafka 4.3.0 brought. A broker does not tell its version, but the
# highest metadata version that it knows; 4.3.1 has the same one.
METADATA_VERSION_4_3: Final = 30
METADATA_VERSION_4_0: Final = 22
# A group that is empty for longer loses its positions. Kafka's default, and the time for which
# events are kept.
MIN_OFFSETS_RETENTION_MINUTES: Final = 7 * 24 * 60
# Around the messages of a request: headers of batch and protocol.
REQUEST_OVERHEAD_BYTES: Final = 64 * 1024


def judge_access(access: Access) -> Judgement:
    """Judges whether the cluster can be reached from here."""
    broken = [server for server in access.servers if server.problem is not None]
    told = [server for server in access.servers if server.is_bootstrap]
    details = tuple(f"{server.address}: {server.problem}" for server in broken)
    if access.failure is not None:
        if all(server in broken for server in told):
            return Judgement(
                Result.WRONG,
                f"none of {counted(len(told), 'address', 'addresses')} can be connected to",
                details,
                "start a broker (`standpipe kafka start`, or its own service), or name another "
                "with --bootstrap-servers",
            )
        return Judgement(
            Result.WRONG,
            "an address can be connected to, but no broker answers there",
            (*details, access.failure),
            "compare the [librdkafka] security settings with the broker's listener, and look at "
            "the broker's log; a broker that is starting answers within a minute",
        )
    sent = [server for server in broken if not server.is_bootstrap]
    if sent:
        return Judgement(
            Result.WRONG,
            f"the cluster sends its clients to {counted(len(sent), 'address', 'addresses')} that "
            "cannot be connected to from here",
            details,
            "correct advertised.listeners of these brokers, or the way to them from this machine",
        )
    if broken:
        return Judgement(
            Result.WARNING,
            f"{len(broken)} of {len(told)} bootstrap servers cannot be connected to",
            details,
            "start them, or take them out of --bootstrap-servers",
        )
    return fine(f"{counted(len(access.servers) - len(told), 'broker')} that can be connected to")


def judge_versions(metadata_versions: Mapping[str, int]) -> Judgement:
    """Judges Kafka's version, by the highest metadata version that brokers know."""
    risky = [name for name, known in metadata_versions.items() if known == METADATA_VERSION_4_3]
    old = [name for name, known in metadata_versions.items() if known < METADATA_VERSION_4_0]
    if old:
        return Judgement(
            Result.WRONG,
            f"{counted(len(old), 'broker')} older than Kafka 4.0",
            tuple(f"{name}: metadata version {metadata_versions[name]}" for name in old),
            "upgrade to Kafka 4.2.1, which everything here is tested with",
        )
    if risky:
        return Judgement(
            Result.WARNING,
            f"{counted(len(risky), 'broker')} of Kafka 4.3",
            tuple(f"{name}: metadata version {metadata_versions[name]}" for name in risky),
            "if it is 4.3.0: it loses transaction markers when a broker starts again, and readers "
            "then wait for ever; use 4.2.1, or a 4.3 in which that is fixed",
        )
    return fine(
        f"{counted(len(metadata_versions), 'broker')}, metadata version up to "
        f"{max(metadata_versions.values())} (Kafka 4.3 has {METADATA_VERSION_4_3})"
    )


class _Rule(NamedTuple):
    """A setting of a broker that matters to us."""

    setting: str
    holds: Callable[[str], bool]
    want: str
    otherwise: str
    result: Result


_RULES: Final = (
    _Rule(
        "transaction.max.timeout.ms",
        lambda value: int(value) >= TRANSACTION_TIMEOUT_MS,
        f"at least {TRANSACTION_TIMEOUT_MS}",
        "no stage can start",
        Result.WRONG,
    ),
    _Rule(
        "group.min.session.timeout.ms",
        lambda value: int(value) <= SESSION_TIMEOUT_MS,
        f"at most {SESSION_TIMEOUT_MS}",
        "no stage can join its group",
        Result.WRONG,
    ),
    _Rule(
        "group.max.session.timeout.ms",
        lambda value: int(value) >= SESSION_TIMEOUT_MS,
        f"at least {SESSION_TIMEOUT_MS}",
        "no stage can join its group",
        Result.WRONG,
    ),
    _Rule(
        "unclean.leader.election.enable",
        lambda value: value == "false",
        "false",
        "a broker that missed writes may take over, and committed messages are gone",
        Result.WARNING,
    ),
    _Rule(
        "auto.create.topics.enable",
        lambda value: value == "false",
        "false",
        "whoever asks for a topic creates it, with other settings than the registry's",
        Result.WARNING,
    ),
    _Rule(
        "offsets.retention.minutes",
        lambda value: int(value) >= MIN_OFFSETS_RETENTION_MINUTES,
        f"at least {MIN_OFFSETS_RETENTION_MINUTES}",
        "a stage that rests for longer loses its positions and does everything again",
        Result.WARNING,
    ),
)


def judge_settings(cluster: Cluster) -> Judgement:
    """Judges settings of the brokers that transactions and groups rest on."""
    broken = [
        (rule, broker, broker.settings[rule.setting])
        for rule in _RULES
        for broker in cluster.brokers
        if rule.setting in broker.settings and not rule.holds(broker.settings[rule.setting])
    ]
    if not broken:
        return fine(
            f"{len(_RULES)} settings of {counted(len(cluster.brokers), 'broker')}, as we need them"
        )
    is_wrong = any(rule.result is Result.WRONG for rule, _, _ in broken)
    return Judgement(
        Result.WRONG if is_wrong else Result.WARNING,
        f"{counted(len({rule.setting for rule, _, _ in broken}), 'setting')} not as we need it",
        tuple(
            f"{broker.name}: {rule.setting} is {value}, should be {rule.want}; otherwise "
            f"{rule.otherwise}"
            for rule, broker, value in broken
        ),
        "set them in the brokers' server.properties (deploy/kafka/server.properties is ours)",
    )


def judge_sizes(cluster: Cluster) -> Judgement:
    """Judges whether the largest message gets from our producers through topics and brokers."""
    topics = _message_limits(cluster)
    details = [*_topic_problems(topics, cluster), *_broker_problems(cluster)]
    if not details:
        return fine(
            f"messages of up to {MAX_MESSAGE_BYTES:,} bytes get through producer, brokers, topics "
            "and readers"
        )
    return Judgement(
        Result.WRONG,
        f"{counted(len(details), 'limit')} not fit for the messages that the stages write",
        tuple(details),
        "`standpipe topics apply` sets those of topics; those of brokers are in their "
        "server.properties",
    )


def _message_limits(cluster: Cluster) -> dict[str, int]:
    """Returns `max.message.bytes` of each topic that exists and whose limit is a number."""
    plan = cluster.plan
    specs = registry().topics
    limits = {
        plan.kafka.topic(topic): spec.configs["max.message.bytes"]
        for topic, spec in specs.items()
        if "max.message.bytes" in spec.configs
    }
    for difference in plan.alter:
        if difference.name == "max.message.bytes" and difference.have is not None:
            limits[difference.topic] = difference.have
    missing = {topic.name for topic in plan.create}
    return {topic: int(limit) for topic, limit in limits.items() if topic not in missing}


def _topic_problems(limits: Mapping[str, int], cluster: Cluster) -> Iterator[str]:
    wanted = {
        difference.topic: int(difference.want)
        for difference in cluster.plan.alter
        if difference.name == "max.message.bytes"
    }
    for topic, limit in sorted(limits.items()):
        if limit < wanted.get(topic, 0):
            yield (
                f"{topic} takes {limit:,} bytes, and may be sent {wanted[topic]:,}: a larger "
                "message ends the stage that writes it"
            )
        if limit > MAX_MESSAGE_BYTES:
            yield (
                f"{topic} takes {limit:,} bytes, and our readers at most {MAX_MESSAGE_BYTES:,}: "
                "a larger message stops them"
            )


def _broker_problems(cluster: Cluster) -> Iterator[str]:
    for broker in cluster.brokers:
        request = int(broker.settings.get("socket.request.max.bytes", MAX_MESSAGE_BYTES * 2))
        if request < MAX_MESSAGE_BYTES + REQUEST_OVERHEAD_BYTES:
            yield (
                f"{broker.name}: socket.request.max.bytes is {request:,}, and a request may have "
                f"{MAX_MESSAGE_BYTES + REQUEST_OVERHEAD_BYTES:,}"
            )
        fetch = int(broker.settings.get("replica.fetch.max.bytes", MAX_MESSAGE_BYTES))
        if len(cluster.brokers) > 1 and fetch < MAX_MESSAGE_BYTES:
            yield (
                f"{broker.name}: replica.fetch.max.bytes is {fetch:,}, and a copy may have to "
                f"fetch {MAX_MESSAGE_BYTES:,}"
            )
