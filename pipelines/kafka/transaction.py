"""One Kafka transaction as one call that either committed or did not happen.

librdkafka sorts errors inside a transaction into three kinds, and each has one answer:

    retriable       the same call again; a commit whose outcome is unknown too
    abortable       abort, then the whole transaction again from its beginning
    fatal           the producer is done for: fenced by a successor, or timed out on the broker

A consumer group that moved on is a fourth, for the loop: its batch belongs to somebody else now.

Source: KIP-98, KIP-447; librdkafka "Transactional producer API".
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.errors import (
    BrokerUnavailableError,
    FencedError,
    HungCallError,
    RefusedByBrokerError,
)
from pipelines.kafka.clients import create_producer
from pipelines.kafka.messages import OutputMessage, Position

# Every call on the broker returns within this time, so that a stop is never waited for longer.
CALL_TIMEOUT_S = 5.0
INIT_TIMEOUT_S = 30.0
# Before an aborted transaction is run again.
REPEAT_PAUSE_S = 0.5
# A call that is not back by then will not come back at all.
HUNG_CALL_S = 3 * CALL_TIMEOUT_S

_GROUP_MOVED_ON = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
    }
)

# What a further try cannot change: the message, or the topic's settings, are wrong.
_REFUSED_FOR_GOOD = frozenset(
    {
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.POLICY_VIOLATION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
    }
)
_FATAL = KafkaError._FATAL  # noqa: SLF001 - librdkafka's own codes begin with _
# What `produce` answers once a delivery has failed and the transaction can only be aborted.
_STATE = KafkaError._STATE  # noqa: SLF001 - as above

_log = logs.get_logger("kafka")
_Result = TypeVar("_Result")


class GroupMovedOnError(Exception):
    """The partitions of this batch belong to another member; nothing was committed."""


class Transaction:
    """What may be done inside one transaction; handed to the body by `TransactionalProducer`.

    Attributes:
        next_offsets: for each partition, the offset after the last delivered message that wanted
            its offset.
        refusal: why the broker will never take one of the messages, or None.
    """

    def __init__(self, producer: Producer, should_stop: Callable[[], bool]) -> None:
        self._producer = producer
        self._should_stop = should_stop
        self.next_offsets: dict[Position, int] = {}
        self.refusal: str | None = None

    def produce(self, message: OutputMessage, *, wants_offset: bool = False) -> None:
        """Queues a message; waits for deliveries while the producer's queue is full.

        Args:
            message: what to write. A failed delivery makes the commit fail.
            wants_offset: whether `next_offsets` shall know of it, once it is delivered.
        """
        on_delivery = self._delivered if wants_offset else self._failed
        while True:
            try:
                self._producer.produce(
                    message.topic,
                    value=message.value,
                    key=message.key,
                    partition=message.partition,
                    headers=list(message.headers),
                    timestamp=message.timestamp_ms,
                    on_delivery=on_delivery,
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def delivered_offsets(self) -> Mapping[Position, int]:
        """Waits until the broker has everything produced so far.

        Returns:
            For each partition, the offset after the last message that wanted its offset.
        """
        while self._producer.flush(CALL_TIMEOUT_S):
            if self._should_stop():
                raise _stopped_waiting()
            _log.warning("waiting_for_deliveries", detail="the broker is slow or away")
        return self.next_offsets

    def send_offsets(
        self,
        next_offsets: Mapping[Position, int],
        group_metadata: Any,
        note: Callable[[Position], str] | None = None,
    ) -> None:
        """Adds the consumer's positions to the transaction.

        Args:
            next_offsets: for each partition, the offset after the last message that is done.
            group_metadata: fresh from the consumer: it is what fences a zombie member.
            note: a text that is kept with the position of each partition.

        Raises:
            HungCallError: the client library does not come back from the call.
        """
        positions = [
            TopicPartition(*where, offset)
            if note is None
            else TopicPartition(*where, offset, note(where))
            for where, offset in next_offsets.items()
        ]
        _retry(
            lambda: _returning(
                lambda: self._producer.send_offsets_to_transaction(
                    positions, group_metadata, CALL_TIMEOUT_S
                )
            ),
            self._should_stop,
        )

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        self._failed(error, message)
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        if error is None and topic is not None and partition is not None and offset is not None:
            where = (topic, partition)
            self.next_offsets[where] = max(self.next_offsets.get(where, 0), offset + 1)

    def _failed(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and error.code() in _REFUSED_FOR_GOOD:
            self.refusal = (
                f"the broker refuses a message of {len(message)} bytes "
                f"for {message.topic()}: {error.str()}"
            )


class TransactionalProducer:
    """A producer that writes in transactions only. Not for use by several threads."""

    def __init__(
        self, kafka: KafkaConfig, transactional_id: str, should_stop: Callable[[], bool]
    ) -> None:
        """Prepares the producer; `start` must come first.

        Args:
            kafka: the cluster.
            transactional_id: stable name of this writer; a later producer of the same name
                fences this one and ends what it left open.
            should_stop: asked while the broker is away, so that waiting for it can be ended.
        """
        self._should_stop = should_stop
        self._kafka = kafka
        self._id = transactional_id
        self._producer = create_producer(kafka, transactional_id)

    def start(self) -> None:
        """Takes over the transactional id and ends its predecessor's open transaction.

        Raises:
            BrokerUnavailableError: no answer within `INIT_TIMEOUT_S`.
            FencedError: another producer took the id at the same moment.
        """
        try:
            self._producer.init_transactions(INIT_TIMEOUT_S)
        except KafkaException as failure:
            error = failure.args[0]
            if error.fatal():
                raise FencedError(error.str()) from None
            raise BrokerUnavailableError(
                f"the transaction coordinator at {self._kafka.bootstrap_servers} does not answer "
                f"({error.str()}); is the broker up? `standpipe kafka status` tells"
            ) from None

    def run(self, body: Callable[[Transaction], None]) -> Mapping[Position, int]:
        """Runs `body` inside a transaction and commits it.

        Args:
            body: produces the messages. It is called again from the start when the transaction
                had to be aborted, so it must not change anything outside of it.

        Returns:
            For each partition, the offset after the last message that wanted its offset.

        Raises:
            BrokerUnavailableError: the broker is away and a stop was asked for. The transaction
                is resolved when the next producer of this id starts.
            GroupMovedOnError: the positions were refused; nothing was committed.
            RefusedByBrokerError: the broker will never take one of the messages.
            FencedError: the producer is done for; nothing was committed by it, but a commit
                whose answer got lost may have been carried out.
        """
        while True:
            transaction = Transaction(self._producer, self._should_stop)
            try:
                self._producer.begin_transaction()
                body(transaction)
                _retry(
                    lambda: self._producer.commit_transaction(CALL_TIMEOUT_S), self._should_stop
                )
            except KafkaException as failure:
                error = failure.args[0]
                if is_fatal(error):
                    raise FencedError(error.str()) from None
                _log.warning("transaction_aborted", id=self._id, detail=error.str())
                self._abort()
                if error.code() in _GROUP_MOVED_ON:
                    raise GroupMovedOnError(error.str()) from None
                if transaction.refusal is not None:
                    raise RefusedByBrokerError(transaction.refusal) from None
                if not error.txn_requires_abort() and error.code() != _STATE:
                    raise
                time.sleep(REPEAT_PAUSE_S)
            except (BrokerUnavailableError, FencedError):
                raise
            except BaseException:
                # Our own bug, or Ctrl-C inside the body: nothing half-done may stay open.
                self._abort()
                raise
            else:
                return transaction.next_offsets

    def _abort(self) -> None:
        try:
            _retry(lambda: self._producer.abort_transaction(CALL_TIMEOUT_S), self._should_stop)
        except KafkaException as failure:
            if is_fatal(failure.args[0]):
                raise FencedError(failure.args[0].str()) from None
            raise


def is_fatal(error: KafkaError) -> bool:
    """Returns whether a client is done for, by an error that it gave."""
    # `produce` and `poll` tell by the code alone that the client has failed before.
    return error.fatal() or error.code() == _FATAL


def _retry(call: Callable[[], _Result], should_stop: Callable[[], bool]) -> _Result:
    """Repeats a call as long as librdkafka says that repeating it is right."""
    while True:
        try:
            return call()
        except KafkaException as failure:
            if not failure.args[0].retriable():
                raise
            if should_stop():
                raise _stopped_waiting() from None
            _log.warning("retrying", detail=failure.args[0].str())


def _returning(call: Callable[[], None]) -> None:
    """Makes a call that may never return, although it was given a time-out.

    librdkafka 2.16 does not keep the time-out while its cached group coordinator is gone, and
    after a restart of the broker may wait for ever (its issues 5456 and 5511). The call is given
    up then, with its thread and its producer; a new producer of the same id ends what it began.
    """
    outcome: list[Exception | None] = []

    def run() -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - raised again below, in the caller's thread
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=run, name="send-offsets", daemon=True)
    thread.start()
    thread.join(HUNG_CALL_S)
    if not outcome:
        raise HungCallError(f"the group coordinator did not answer within {HUNG_CALL_S:.0f} s")
    if outcome[0] is not None:
        raise outcome[0]


def _stopped_waiting() -> BrokerUnavailableError:
    return BrokerUnavailableError(
        "stopped while the broker was away; the open transaction is resolved at the next start"
    )
