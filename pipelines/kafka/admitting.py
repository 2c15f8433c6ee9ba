"""The table of admitted collections in Kafka: read, compared with ours, changed.

A change has to reach every worker before the first frame that it is for. Nobody can be told in
time who works on, so nobody may work while it is made:

    1. the new table is announced, without offsets
    2. the groups of the workers have to be empty; else the announcement is withdrawn
    3. the ends of `frames` are noted: nothing from there on was ever judged
    4. the table is written again, with these offsets

Workers read the tables, to the true end, once they are members of their group. One that joined
before step 2 is seen there; one that joins later finds the announcement, or the new table. A
process that was taken for dead in step 2 and wakes up has lost its membership, and with it the
right to commit.

A change that was broken off leaves its announcement, which the next `standpipe topics apply`
finishes, or withdraws if it is to be as it was.
"""

import time
from collections.abc import Callable, Collection
from typing import Final

from confluent_kafka import ConsumerGroupState, KafkaException

from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError, ConfigError
from pipelines.kafka.admission import (
    TOPIC,
    Admissions,
    Table,
    admissions_of,
    difference,
    encode_table,
)
from pipelines.kafka.clients import create_admin
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.reading import (
    REQUEST_TIMEOUT_S,
    insist,
    log_ends,
    read_between,
    readable_log_ends,
)
from pipelines.kafka.topics import Registry, registry
from pipelines.kafka.transaction import Transaction, TransactionalProducer

# The stages that read or write topics of collections. The bridge knows none and may run on.
STAGES: Final = ("explode", "compact", "analytics")
# Two changes at once: the second one's producer ends the first.
_SLOT: Final = "0"


def configured(kafka: KafkaConfig) -> Registry:
    """Returns the registry with the table of our configuration."""
    packaged = registry()
    return packaged if kafka.admitted is None else packaged.admitting(kafka.admitted)


def load_admissions(kafka: KafkaConfig, *, to_true_end: bool = False) -> Admissions:
    """Returns the tables of a deployment, whose topic exists.

    Args:
        kafka: the cluster.
        to_true_end: whether to wait for what is committed and not readable yet. Who works by the
            tables has to: a commit is confirmed before its messages can be read.

    Raises:
        BrokerUnavailableError: the broker does not answer, or a transaction stays open.
        ConfigError: the topic holds something else.
    """
    where = (kafka.topic(TOPIC), 0)
    ends = (
        readable_log_ends(kafka, [where])
        if to_true_end
        else log_ends(kafka, [where], is_readable=True)
    )
    try:
        return admissions_of(read_between(kafka, {where: 0}, ends))
    except ValueError as error:
        raise ConfigError(
            f"the topic {where[0]} cannot be understood ({error}): use the version of standpipe "
            "that wrote it, or a newer one"
        ) from None


def deployed(kafka: KafkaConfig, *, to_true_end: bool = False) -> tuple[Registry, Admissions]:
    """Returns the tables of a deployment, and the registry with every topic that they made.

    Args:
        kafka: the cluster.
        to_true_end: as in `load_admissions`.

    Raises:
        BrokerUnavailableError: the broker does not answer.
        ConfigError: there is no table yet.
    """
    admissions = load_admissions(kafka, to_true_end=to_true_end)
    if admissions.current is None:
        raise ConfigError(
            f"nobody has said which collections have topics of their own: {kafka.topic(TOPIC)} is "
            "empty; run `standpipe topics apply`"
        )
    return registry().admitting(admissions.ever), admissions


def join(kafka: KafkaConfig) -> tuple[Registry, Admissions]:
    """Returns the same for a worker, whose own table has to be the newest one.

    Raises:
        BrokerUnavailableError: the broker does not answer.
        ConfigError: the tables differ, or a change is under way.
    """
    known, admissions = deployed(kafka, to_true_end=True)
    check_agreement(admissions, configured(kafka).admitted_collections)
    return known, admissions


def check_agreement(admissions: Admissions, collections: Collection[str]) -> None:
    """Checks that a worker may work with its table.

    Args:
        admissions: of the deployment.
        collections: those of the worker's table.

    Raises:
        ConfigError: the tables differ, or a change is under way.
    """
    if admissions.announced is not None:
        raise ConfigError(
            f"the table of admitted collections is being changed to number "
            f"{admissions.announced.number}: finish that with `standpipe topics apply`, then "
            "start again"
        )
    current = admissions.current
    assert current is not None
    differing = difference(current.collections, collections)
    if differing:
        raise ConfigError(
            f"this process admits other collections than the deployment, whose table is number "
            f"{current.number} ({differing}): give it the same --admit and the same version as "
            "the others; or, to change the deployment, stop its explode, compact and analytics, "
            "run `standpipe topics apply` with the new table, and start them with it"
        )


def confirmation(kafka: KafkaConfig, known: Admissions) -> Callable[[], None]:
    """Returns the check that a worker makes each time it was given partitions.

    Args:
        kafka: the cluster.
        known: the tables that the worker was made with.

    Returns:
        A function that raises `ConfigError` if they are not those of the deployment any more.
    """

    def confirm() -> None:
        _, admissions = join(kafka)
        if admissions != known:
            raise ConfigError(
                "the table of admitted collections was changed meanwhile: start this process again"
            )

    return confirm


def admit(kafka: KafkaConfig, collections: Collection[str], partitions_count: int) -> Admissions:
    """Makes a table the one in force.

    Args:
        kafka: the cluster; all topics that the table needs exist.
        collections: of the table.
        partitions_count: of `frames`.

    Returns:
        The tables afterwards.

    Raises:
        BrokerUnavailableError: no broker answers. An announcement may be left.
        ConfigError: somebody works on; nothing is changed then.
        FencedError: somebody else changes the table at the same time.
    """
    transactional_id = kafka.transactional_id("topics", _SLOT)
    producer = TransactionalProducer(kafka, transactional_id, lambda: False)
    producer.start()
    before = load_admissions(kafka, to_true_end=True)
    wanted = tuple(sorted(collections))
    number = len(before.tables) + 1
    announced = Table(number, wanted, None)
    if before.current is None:
        table = announced._replace(next_offsets=(0,) * partitions_count)
    elif before.current.collections == wanted:
        if before.announced is not None:
            _write(kafka, producer, announced, is_withdrawn=True)
        return load_admissions(kafka, to_true_end=True)
    else:
        _write(kafka, producer, announced)
        try:
            check_nobody_works(kafka)
        except ConfigError:
            _write(kafka, producer, announced, is_withdrawn=True)
            raise
        ends = log_ends(kafka, [(kafka.topic("frames"), n) for n in range(partitions_count)])
        table = announced._replace(next_offsets=tuple(ends[where] for where in sorted(ends)))
    _write(kafka, producer, table)
    return load_admissions(kafka, to_true_end=True)


def check_nobody_works(kafka: KafkaConfig) -> None:
    """Checks that no worker is a member of its group.

    Raises:
        BrokerUnavailableError: no broker answers.
        ConfigError: one is.
    """
    admin = create_admin(kafka)
    stages = {kafka.group(stage): stage for stage in STAGES}

    def ask() -> list[str]:
        futures = admin.describe_consumer_groups(list(stages), request_timeout=REQUEST_TIMEOUT_S)
        return [
            stages[group]
            for group, future in futures.items()
            if future.result(2 * REQUEST_TIMEOUT_S).state
            not in {ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD}
        ]

    try:
        busy = insist(ask)
    except (KafkaException, TimeoutError) as error:
        raise BrokerUnavailableError(
            f"the broker at {kafka.bootstrap_servers} does not tell who works ({error}); is it "
            "up? `standpipe kafka status` tells"
        ) from None
    if busy:
        raise ConfigError(
            f"{' and '.join(busy)} of {kafka.topic_prefix} still run, and would miss a change of "
            "the admitted collections: stop them (the bridge may run on; who was killed is gone "
            "after ten seconds), and apply again; the table is as it was"
        )


def _write(
    kafka: KafkaConfig,
    producer: TransactionalProducer,
    table: Table,
    *,
    is_withdrawn: bool = False,
) -> None:
    now_us = time.time_ns() // 1_000
    value = None if is_withdrawn else encode_table(table, now_us)
    message = OutputMessage(kafka.topic(TOPIC), 0, table.key, value, [], now_us // 1_000)

    def body(transaction: Transaction) -> None:
        transaction.produce(message)

    producer.run(body)
