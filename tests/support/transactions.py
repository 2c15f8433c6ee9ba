"""What the broker itself notes about transactions, from its topic `__transaction_state`.

Whether a writer was killed inside a transaction is the coordinator's to say: its last note before
the kill is "ongoing", and its next one after it is that the transaction is aborted, never that it
is committed.

Layout of keys and values: Kafka's TransactionLogKey.json and TransactionLogValue.json; the status
stands at the same place in both versions of the value.
"""

import struct
import threading
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from pipelines.config import KafkaConfig
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.reading import input_message, read_to_end

TOPIC = "__transaction_state"

_KEY = struct.Struct(">hh")  # version, length of the transactional id
_VALUE = struct.Struct(">hqhib")  # version, producer id, epoch, time-out, status


class Status(IntEnum):
    """Kafka's `TransactionState`."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7


ENDED = frozenset({Status.EMPTY, Status.COMPLETE_COMMIT, Status.COMPLETE_ABORT, Status.DEAD})


class Note(NamedTuple):
    """One note of the coordinator.

    Attributes:
        transactional_id: whose transaction.
        status: what it is now.
        at_ms: when it was noted, milliseconds since the epoch.
    """

    transactional_id: str
    status: Status
    at_ms: int


def read_notes(config: KafkaConfig) -> list[Note]:
    """Returns all notes there are about a deployment, in order for each transactional id."""
    prefix = config.transactional_id("", "").removesuffix(".")
    messages = read_to_end(config, [TOPIC])
    notes = [_note(message) for message in messages]
    return [note for note in notes if note and note.transactional_id.startswith(prefix)]


def was_inside(notes: Iterable[Note], transactional_id: str, at_ms: int) -> bool:
    """Tells whether a writer that ended at a moment left a transaction open.

    Args:
        notes: those written up to a successor's first transaction, or later.
        transactional_id: the writer.
        at_ms: when it was dead (or stopped), milliseconds since the epoch.
    """
    own = [note for note in notes if note.transactional_id == transactional_id]
    before = [note.status for note in own if note.at_ms <= at_ms]
    after = [note.status for note in own if note.at_ms > at_ms and note.status != Status.ONGOING]
    return (
        bool(before and after)
        and before[-1] is Status.ONGOING
        and after[0] in (Status.PREPARE_ABORT, Status.PREPARE_EPOCH_FENCE)
    )


def open_at(notes: Iterable[Note], at_ms: int) -> list[str]:
    """Returns whose transactions were open at a moment."""
    last = {note.transactional_id: note.status for note in notes if note.at_ms <= at_ms}
    return sorted(name for name, status in last.items() if status is Status.ONGOING)


class TransactionWatch:
    """Sees transactions begin and end while it happens, a few milliseconds late."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._statuses: dict[str, Status] = {}
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="transactions", daemon=True)

    def wait_until_open(self, transactional_id: str, timeout_s: float) -> bool:
        """Waits for the beginning of a transaction; returns whether there was one in time."""
        with self._changed:
            # One that is open already may end any moment: the next one is seen from its start.
            self._statuses.pop(transactional_id, None)
            return self._changed.wait_for(
                lambda: self._statuses.get(transactional_id) is Status.ONGOING, timeout_s
            )

    def stays_open(self, transactional_id: str, duration_s: float) -> bool:
        """Tells whether a transaction that was open is so for a while, without another one."""
        with self._changed:
            return not self._changed.wait_for(
                lambda: self._statuses.get(transactional_id) is not Status.ONGOING, duration_s
            )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_stopping = True
        self._thread.join()

    def _run(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._config.bootstrap_servers,
                "group.id": self._config.group("watch"),
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
                "log_level": 0,  # the broker is killed now and then
            }
        )
        try:
            partitions = consumer.list_topics(TOPIC, timeout=20).topics[TOPIC].partitions
            consumer.assign([TopicPartition(TOPIC, number, OFFSET_END) for number in partitions])
            while not self._is_stopping:
                polled = consumer.poll(0.2)
                if polled is not None and polled.error() is None:
                    self._take(input_message(polled))
        finally:
            consumer.close()

    def _take(self, message: InputMessage) -> None:
        note = _note(message)
        if note is not None:
            with self._changed:
                self._statuses[note.transactional_id] = note.status
                self._changed.notify_all()


def _note(message: InputMessage) -> Note | None:
    """Returns what a message says; None where it only withdraws what an earlier one said."""
    if message.key is None or message.value is None:
        return None
    _, length = _KEY.unpack_from(message.key)
    name = message.key[_KEY.size : _KEY.size + length].decode()
    *_, status = _VALUE.unpack_from(message.value)
    return Note(name, Status(status), message.timestamp_ms)
