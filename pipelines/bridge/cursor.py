"""What the topics say when a bridge starts: where it left off, and where the log ends.

The end of a partition is its true one, behind transactions that are still open (the "high
watermark"). What `read_committed` readers see would not do: bridges of several upstreams share
the one partition of `cursors`, and while another one's transaction is open, our own last cursor
may lie behind it, committed and not yet readable.
"""

import time

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # no explicit re-exports
    AdminClient,
    OffsetSpec,
)

from pipelines import logs
from pipelines.bridge.messages import StoredCursor, parse_cursor
from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError, ConfigError
from pipelines.kafka.reading import read_to_end

REQUEST_TIMEOUT_S = 10.0
# A killed bridge's transaction stays open for its time-out of ten seconds and the broker's
# clean-up interval, which is as long by default.
OPEN_TRANSACTIONS_TIMEOUT_S = 60.0
OPEN_TRANSACTIONS_POLL_S = 0.05

_log = logs.get_logger("bridge")


def load_cursor(kafka: KafkaConfig, host: str) -> StoredCursor | None:
    """Reads the last cursor of an upstream.

    To be called after the transactional id was taken over: then no earlier bridge of this host
    can write another one.

    Args:
        kafka: the cluster.
        host: the upstream, which is the key.

    Returns:
        The host's last cursor; None if it has none, or if it was withdrawn with a null.

    Raises:
        BrokerUnavailableError: the broker does not answer.
        ConfigError: the cursor cannot be understood.
    """
    topic = kafka.topic("cursors")
    _wait_until_readable(kafka, topic)
    key = host.encode()
    value: bytes | None = None
    for message in read_to_end(kafka, [topic]):
        if message.key == key:
            value = message.value
    if value is None:
        return None
    try:
        return parse_cursor(value)
    except ValueError as error:
        raise ConfigError(
            f"the cursor of {host} in {topic} cannot be understood ({error}): a newer standpipe "
            "may have written it; update, or use another --topic-prefix"
        ) from None


def load_log_ends(
    kafka: KafkaConfig,
    topic: str,
    partitions: int,
    isolation_level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[int, int]:
    """Returns for each partition of a topic the offset after its last message.

    Args:
        kafka: the cluster.
        topic: physical name.
        partitions: how many it has.
        isolation_level: whether open transactions count, or what comes from the first of them on
            does not.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    admin = AdminClient(
        {"log_level": 0, **kafka.options, "bootstrap.servers": kafka.bootstrap_servers}
    )
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # has no annotations
    futures = admin.list_offsets(
        {TopicPartition(topic, number): latest for number in range(partitions)},
        isolation_level=isolation_level,
        request_timeout=REQUEST_TIMEOUT_S,
    )
    try:
        return {
            where.partition: future.result(2 * REQUEST_TIMEOUT_S).offset
            for where, future in futures.items()
        }
    except (KafkaException, TimeoutError) as error:
        raise BrokerUnavailableError(
            f"the broker at {kafka.bootstrap_servers} does not tell where {topic} ends ({error}); "
            "is it up? `standpipe kafka status` tells"
        ) from None


def _wait_until_readable(kafka: KafkaConfig, topic: str) -> None:
    """Waits until the transactions that are open now in a topic of one partition have ended."""
    end = load_log_ends(kafka, topic, 1)[0]
    deadline_s = time.monotonic() + OPEN_TRANSACTIONS_TIMEOUT_S
    while load_log_ends(kafka, topic, 1, IsolationLevel.READ_COMMITTED)[0] < end:
        if time.monotonic() > deadline_s:
            raise BrokerUnavailableError(
                f"a transaction on {topic} has been open for {OPEN_TRANSACTIONS_TIMEOUT_S:.0f} s; "
                "look for a bridge that hangs, or at the broker's log"
            )
        _log.debug("waiting_for_open_transactions", topic=topic)
        time.sleep(OPEN_TRANSACTIONS_POLL_S)
