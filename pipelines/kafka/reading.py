"""Reading topics up to an end that was noted before, once.

librdkafka's positions do not pass the markers that end a transaction, so comparing positions with
the end is not enough: a partition is done at a message that is its last, or at an end-of-partition
event whose offset has reached the end. The event alone would not do either, since a topic that
others write to all the time may never report one.

There are two ends. `read_committed` readers stop at the first open transaction; the true end (the
"high watermark") lies behind it. Who rebuilds a state must not start before everything up to the
true end is readable: a transaction may be committed whose marker is still on its way.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # no explicit re-export

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka.clients import create_admin, create_reader, is_passing
from pipelines.kafka.messages import InputMessage, Position

# Without any message or end for so long, the broker is away.
PROGRESS_TIMEOUT_S = 30.0
REQUEST_TIMEOUT_S = 10.0
# A killed writer's transaction stays open for its time-out of ten seconds and the broker's
# clean-up interval, which is as long by default.
OPEN_TRANSACTIONS_TIMEOUT_S = 60.0
OPEN_TRANSACTIONS_POLL_S = 0.05
# Until a question is asked again whose answer is only late.
RETRY_POLL_S = 0.1
_POLL_TIMEOUT_S = 0.5

_Answer = TypeVar("_Answer")

_log = logs.get_logger("kafka")


def read_to_end(
    kafka: KafkaConfig, topics: Sequence[str], partitions: Collection[int] | None = None
) -> Iterator[InputMessage]:
    """Yields every committed message that topics hold now, up to the first open transaction.

    Args:
        kafka: the cluster.
        topics: physical names.
        partitions: the partitions to read of each; all by default.

    Yields:
        Messages, in order within each partition.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    consumer = create_reader(kafka)
    try:
        ends = _readable_ends(consumer, topics, partitions)
        yield from _read(consumer, dict.fromkeys(ends, OFFSET_BEGINNING), ends)
    finally:
        consumer.close()


def read_between(
    kafka: KafkaConfig, starts: Mapping[Position, int], ends: Mapping[Position, int]
) -> Iterator[InputMessage]:
    """Yields every committed message of partitions between two offsets.

    Args:
        kafka: the cluster.
        starts: offset of the first message wanted, for each partition.
        ends: offset after the last one, for each partition; not beyond what is readable.

    Yields:
        Messages, in order within each partition.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    wanted = {where: end for where, end in ends.items() if end > starts[where]}
    if not wanted:
        return
    consumer = create_reader(kafka)
    try:
        yield from _read(consumer, {where: starts[where] for where in wanted}, wanted)
    finally:
        consumer.close()


def read_message(
    kafka: KafkaConfig, topic: str, partition: int, offset: int
) -> InputMessage | None:
    """Reads one committed message.

    Args:
        kafka: the cluster.
        topic: physical name.
        partition: where it is in the topic.
        offset: where it is in the partition.

    Returns:
        The message. None if there is none: no such topic or partition, not written yet, deleted or
        compacted away, aborted, or the mark at the end of a transaction.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    where = (topic, partition)
    consumer = create_reader(kafka)
    try:
        if offset >= _readable_ends(consumer, [topic], [partition]).get(where, 0):
            return None
        return next(_read(consumer, {where: offset}, {where: offset + 1}), None)
    finally:
        consumer.close()


def log_ends(
    kafka: KafkaConfig, partitions: Iterable[Position], *, is_readable: bool = False
) -> dict[Position, int]:
    """Returns the offset after the last message of partitions.

    Args:
        kafka: the cluster.
        partitions: topics and partitions.
        is_readable: what comes from the first open transaction on does not count.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # has no annotations
    return _offsets(kafka, partitions, latest, is_readable=is_readable)


def log_starts(
    kafka: KafkaConfig, partitions: Iterable[Position], since_ms: int | None = None
) -> dict[Position, int | None]:
    """Returns the offset of the first message of partitions.

    Args:
        kafka: the cluster.
        partitions: topics and partitions.
        since_ms: the first one with this timestamp or a later one, milliseconds since 1970; those
            behind it may have earlier ones. None for the first one there is.

    Returns:
        The offset for each partition; None where no message is that late.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # has no annotations
    spec = earliest if since_ms is None else OffsetSpec.for_timestamp(since_ms)
    found = _offsets(kafka, partitions, spec, is_readable=False)
    return {where: None if offset < 0 else offset for where, offset in found.items()}


def _offsets(
    kafka: KafkaConfig, partitions: Iterable[Position], spec: OffsetSpec, *, is_readable: bool
) -> dict[Position, int]:
    wanted = list(partitions)
    if not wanted:
        return {}
    admin = create_admin(kafka)  # kept until the answers are there: they end with it
    isolation = IsolationLevel.READ_COMMITTED if is_readable else IsolationLevel.READ_UNCOMMITTED

    def ask() -> dict[Position, int]:
        futures = admin.list_offsets(
            {TopicPartition(*where): spec for where in wanted},
            isolation_level=isolation,
            request_timeout=REQUEST_TIMEOUT_S,
        )
        return {
            (where.topic, where.partition): future.result(2 * REQUEST_TIMEOUT_S).offset
            for where, future in futures.items()
        }

    try:
        return insist(ask)
    except (KafkaException, TimeoutError) as error:
        topics = ", ".join(sorted({topic for topic, _ in wanted}))
        raise BrokerUnavailableError(
            f"the broker at {kafka.bootstrap_servers} does not tell where {topics} begins and ends"
            f" ({error}); is it up? `standpipe kafka status` tells"
        ) from None


def readable_log_ends(kafka: KafkaConfig, partitions: Iterable[Position]) -> dict[Position, int]:
    """Returns the true ends of partitions, once everything before them can be read.

    Waits until the transactions that are open now have ended.

    Raises:
        BrokerUnavailableError: the broker does not answer, or a transaction stays open.
    """
    ends = log_ends(kafka, partitions)
    unreadable = set(ends)
    deadline_s = time.monotonic() + OPEN_TRANSACTIONS_TIMEOUT_S
    while True:
        readable = log_ends(kafka, unreadable, is_readable=True)
        unreadable = {where for where, end in readable.items() if end < ends[where]}
        if not unreadable:
            return ends
        topic = min(unreadable)[0]
        if time.monotonic() > deadline_s:
            raise BrokerUnavailableError(
                f"a transaction on {topic} has been open for {OPEN_TRANSACTIONS_TIMEOUT_S:.0f} s; "
                "look for a process that hangs, or at the broker's log"
            )
        _log.debug("waiting_for_open_transactions", topic=topic)
        time.sleep(OPEN_TRANSACTIONS_POLL_S)


def input_message(polled: Message) -> InputMessage:
    """Converts a message of the client library, which must not be an error."""
    topic, partition, offset = polled.topic(), polled.partition(), polled.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    headers = polled.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return InputMessage(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp_ms=polled.timestamp()[1],
        key=_as_bytes(polled.key()),
        value=_as_bytes(polled.value()),
        headers=[(name, _as_bytes(value) or b"") for name, value in pairs],
    )


def _read(
    consumer: Consumer, starts: Mapping[Position, int], ends: Mapping[Position, int]
) -> Iterator[InputMessage]:
    pending = dict(ends)
    consumer.assign([TopicPartition(*where, starts[where]) for where in pending])
    deadline_s = time.monotonic() + PROGRESS_TIMEOUT_S
    while pending:
        polled = consumer.poll(_POLL_TIMEOUT_S)
        if polled is None:
            if time.monotonic() > deadline_s:
                topics = ", ".join(sorted({topic for topic, _ in ends}))
                raise BrokerUnavailableError(f"no answer while reading {topics}")
            continue
        deadline_s = time.monotonic() + PROGRESS_TIMEOUT_S
        error = polled.error()
        where = (polled.topic() or "", polled.partition() or 0)
        end = pending.get(where)
        if error is None:
            if end is not None:
                message = input_message(polled)
                if message.offset < end:
                    yield message
                if message.offset + 1 >= end:
                    del pending[where]
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            if end is not None and (polled.offset() or 0) >= end:
                del pending[where]
        elif not is_passing(error):
            raise KafkaException(error)


def _as_bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _readable_ends(
    consumer: Consumer, topics: Sequence[str], partitions: Collection[int] | None
) -> dict[Position, int]:
    """Returns where `read_committed` readers come to an end now; empty partitions are left out."""
    ends = {}
    try:
        for topic in topics:
            metadata = consumer.list_topics(topic, timeout=PROGRESS_TIMEOUT_S).topics[topic]
            for partition in metadata.partitions:
                if partitions is not None and partition not in partitions:
                    continue
                where = TopicPartition(topic, partition)
                ask = partial(consumer.get_watermark_offsets, where, timeout=PROGRESS_TIMEOUT_S)
                low, high = insist(ask, PROGRESS_TIMEOUT_S)
                if high > low:
                    ends[topic, partition] = high
    except KafkaException as failure:
        raise BrokerUnavailableError(f"no answer about {topic}: {failure.args[0].str()}") from None
    return ends


def insist(ask: Callable[[], _Answer], patience_s: float = REQUEST_TIMEOUT_S) -> _Answer:
    """Asks again while an error passes.

    A partition that is new, or moves, has no leader yet; a coordinator that is new loads the
    positions of its groups.

    Args:
        ask: a request to the cluster.
        patience_s: how long to ask again, seconds.

    Raises:
        KafkaException: what the last answer was.
    """
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            return ask()
        except KafkaException as failure:
            if not is_passing(failure.args[0]) or time.monotonic() > deadline_s:
                raise
            time.sleep(RETRY_POLL_S)
