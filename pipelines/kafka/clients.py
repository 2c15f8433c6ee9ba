"""How every Kafka client of the pipeline is configured; the delivery guarantee rests on it.

Limits of memory, and what happens when they are reached:

    producer queue    PRODUCER_QUEUE_KBYTES   the stage waits for deliveries
    consumer queue    CONSUMER_QUEUE_KBYTES   librdkafka stops fetching
    signs of life     STATUS_QUEUE_COUNT      further ones are dropped
"""

import logging
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient

from pipelines import logs
from pipelines.config import KafkaConfig

# The largest message is a quarantined websocket message of 16 MiB with its headers.
MAX_MESSAGE_BYTES = 17 * 1024 * 1024
PRODUCER_QUEUE_KBYTES = 64 * 1024
CONSUMER_QUEUE_KBYTES = 32 * 1024
# A killed worker's open transaction holds back read_committed readers for this long.
TRANSACTION_TIMEOUT_MS = 10_000
# Must exceed the broker's minimum of 6 s; a killed worker's partitions stay idle for this long.
SESSION_TIMEOUT_MS = 10_000
# A sign of life that is older is worth nothing: five have followed it.
STATUS_TIMEOUT_MS = 10_000
STATUS_QUEUE_COUNT = 100
SAMPLER_WAIT_MS = 10

# What ends by itself once a broker is back, or a partition or a group has its leader again.
_PASSING: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - librdkafka's own codes begin with _
        KafkaError._RESOLVE,  # noqa: SLF001 - as above
        KafkaError._TIMED_OUT,  # noqa: SLF001 - as above
        KafkaError._TRANSPORT,  # noqa: SLF001 - as above
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
    }
)

_log = logs.get_logger("kafka")


class _LessNoise(logging.Filter):
    """Keeps back a line for each failed attempt to connect, ten a second while a broker is away.

    `_report_error` says so once.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("FAIL ")


# librdkafka's own lines go where ours go; it writes to stderr otherwise.
_librdkafka_log = logging.getLogger("standpipe.librdkafka")
_librdkafka_log.addFilter(_LessNoise())


def is_passing(error: KafkaError) -> bool:
    """Tells whether an error ends by itself, so that the same may be asked again.

    `KafkaError.retriable` alone does not tell: librdkafka sets it for calls about transactions
    only.
    """
    return error.code() in _PASSING or error.retriable()


def create_admin(kafka: KafkaConfig) -> AdminClient:
    """Creates a client for questions about the cluster; each call has its own time-out."""
    # Otherwise librdkafka writes each failed attempt to connect to stderr.
    return AdminClient(
        {"log_level": 0, **kafka.options, "bootstrap.servers": kafka.bootstrap_servers}
    )


def create_producer(kafka: KafkaConfig, transactional_id: str) -> Producer:
    """Creates a transactional producer; it connects on first use."""
    settings: dict[str, Any] = {
        **_common(kafka),
        "transactional.id": transactional_id,
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "queue.buffering.max.kbytes": PRODUCER_QUEUE_KBYTES,
        "linger.ms": 5,
        "compression.type": "zstd",
        # As small as with the default of 3 (frames 1.8, events 3.2, records 5.8 times, in batches
        # of 50 kB), for a fifth to a third less processor time.
        "compression.level": 1,
        # The first produce of a transaction asks again while the previous one is completing.
        "retry.backoff.ms": 10,
    }
    return Producer(settings, logger=_librdkafka_log)


def create_status_producer(kafka: KafkaConfig) -> Producer:
    """Creates a producer for signs of life: in order, outside of transactions, worth no wait."""
    settings: dict[str, Any] = {
        **_common(kafka),
        "enable.idempotence": True,
        "message.timeout.ms": STATUS_TIMEOUT_MS,
        "queue.buffering.max.messages": STATUS_QUEUE_COUNT,
        "topic.metadata.propagation.max.ms": STATUS_TIMEOUT_MS,
    }
    return Producer(settings, logger=_librdkafka_log)


def create_group_consumer(kafka: KafkaConfig, group: str) -> Consumer:
    """Creates a consumer that takes part in a group and never commits by itself.

    A position that the broker no longer has stops the process instead of resetting: it means
    that data was deleted before we read it.
    """
    settings = {
        **_member(kafka, group),
        "partition.assignment.strategy": "range",  # the same partitions of every topic together
    }
    return Consumer(settings, logger=_librdkafka_log)


def create_standing_consumer(kafka: KafkaConfig, group: str, slot: str) -> Consumer:
    """Creates a consumer of a group whose members keep what they have when others join.

    Assignments come as changes (`incremental_assign`). A member that is started anew under its
    name has at once what it had; if it does not come back, the others get it when its session has
    timed out. A second one under the same name ends the first.

    Args:
        kafka: the cluster.
        group: its name.
        slot: stable name of the member.
    """
    settings = {
        **_member(kafka, group),
        "group.instance.id": slot,
        "partition.assignment.strategy": "cooperative-sticky",
    }
    return Consumer(settings, logger=_librdkafka_log)


def create_reader(kafka: KafkaConfig) -> Consumer:
    """Creates a consumer for reading given partitions to their end, outside of any group.

    It reports the end of each partition as an event (`KafkaError._PARTITION_EOF`).
    """
    return Consumer(_reader(kafka), logger=_librdkafka_log)


def create_strict_reader(kafka: KafkaConfig) -> Consumer:
    """Creates a reader that does not skip what was deleted before it came so far.

    It reports that (`KafkaError._AUTO_OFFSET_RESET`) instead of going on behind it.
    """
    return Consumer({**_reader(kafka), "auto.offset.reset": "error"}, logger=_librdkafka_log)


def create_bookkeeper(kafka: KafkaConfig, group: str) -> Consumer:
    """Creates a client that keeps positions under a group's name and never takes part in one."""
    return Consumer({**_consumer(kafka), "group.id": group}, logger=_librdkafka_log)


def create_sampler(kafka: KafkaConfig, *, count: int, fetch_bytes: int) -> Consumer:
    """Creates a reader that fetches little more than it is asked for.

    Args:
        kafka: the cluster.
        count: messages of a partition that are enough; no more are fetched ahead.
        fetch_bytes: of one fetch from one partition; one batch may pass it.
    """
    settings = {
        **_reader(kafka),
        "queued.min.messages": count,
        "fetch.message.max.bytes": fetch_bytes,
        # It jumps about, and a jump waits for the request under way, which by default waits half a
        # second for new messages; and a full queue for a second until it is looked at again.
        "fetch.wait.max.ms": SAMPLER_WAIT_MS,
        "fetch.queue.backoff.ms": SAMPLER_WAIT_MS,
    }
    return Consumer(settings, logger=_librdkafka_log)


def _member(kafka: KafkaConfig, group: str) -> dict[str, Any]:
    return {
        **_consumer(kafka),
        "group.id": group,
        "session.timeout.ms": SESSION_TIMEOUT_MS,
        "auto.offset.reset": "error",
    }


def _reader(kafka: KafkaConfig) -> dict[str, Any]:
    return {
        **_consumer(kafka),
        # librdkafka wants a name; nothing is ever committed under it.
        "group.id": kafka.group("reader"),
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
    }


def _consumer(kafka: KafkaConfig) -> dict[str, Any]:
    return {
        **_common(kafka),
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "queued.max.messages.kbytes": CONSUMER_QUEUE_KBYTES,
        "fetch.message.max.bytes": MAX_MESSAGE_BYTES,
        "receive.message.max.bytes": 2 * MAX_MESSAGE_BYTES,
        "fetch.max.bytes": MAX_MESSAGE_BYTES,
    }


def _common(kafka: KafkaConfig) -> dict[str, Any]:
    return {
        **kafka.options,
        "bootstrap.servers": kafka.bootstrap_servers,
        "error_cb": _report_error,
    }


def _report_error(error: KafkaError) -> None:
    # Fatal errors also come back from the call that meets them; the rest librdkafka retries.
    if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - the public name has it
        _log.warning("broker_unreachable", detail=error.str(), remedy="waiting; it is retried")
    else:
        _log.debug("client_error", code=error.name(), detail=error.str())
