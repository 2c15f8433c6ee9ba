"""Which of several bridges of one pipeline works: the others stand by until it is gone.

They are members of one consumer group; who is assigned the one partition of `cursors` leads. What
is written is safe without it, because a new leader takes over the transactional id before it reads
a cursor. The group sees to it that there is a leader, and that only one at a time tries.

Members have stable names (slots). A leader that is started anew under its name goes on at once,
and a bridge that joins deposes nobody; when a leader does not come back, the next one leads after
`SESSION_TIMEOUT_MS`.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.errors import FencedError
from pipelines.kafka.clients import create_standing_consumer
from pipelines.kafka.transaction import is_fatal

_POLL_TIMEOUT_S = 0.2
# A member that the group has given up learns of it with its next heartbeat, after 3 s.
_CONFIRM_S = 7.0

_log = logs.get_logger("bridge")


class Leadership:
    """Membership in the group of a pipeline's bridges while the `with` block runs.

    Attributes:
        is_held: whether we lead, as of the last poll.
    """

    def __init__(self, kafka: KafkaConfig, slot: str) -> None:
        """Prepares it.

        Args:
            kafka: the cluster and the prefix of the pipeline's topics.
            slot: our stable name among the bridges of the pipeline.
        """
        self._slot = slot
        self._topic = kafka.topic("cursors")
        self._consumer: Consumer = create_standing_consumer(kafka, kafka.group("bridge"), slot)
        self._is_closing = False
        self._is_replaced = False
        self.is_held = False

    def wait(self, should_stop: Callable[[], bool]) -> bool:
        """Waits until we lead; returns whether we do, and not a stop was asked for.

        Args:
            should_stop: asked several times a second.
        """
        if not self.is_held:
            _log.info("standing_by")
        while not self.is_held and not should_stop():
            self.poll(_POLL_TIMEOUT_S)
        return self.is_held

    def is_confirmed(self) -> bool:
        """Returns whether we still lead, after as long as it takes to hear that we do not.

        To be asked by whoever has a reason to doubt it: a process that slept fences its successor
        if it goes on.
        """
        deadline_s = time.monotonic() + _CONFIRM_S
        while self.is_held and time.monotonic() < deadline_s:
            self.poll(_POLL_TIMEOUT_S)
        return self.is_held

    def poll(self, timeout_s: float = 0.0) -> bool:
        """Learns what the group has decided; to be called every few seconds.

        Returns:
            Whether we lead.

        Raises:
            FencedError: another process has our name.
        """
        message = self._consumer.poll(timeout_s)
        error = None if message is None else message.error()
        if error is not None and is_fatal(error):
            self.is_held, self._is_replaced = False, True
        elif error is not None:
            _log.debug("group_error", code=error.name(), detail=error.str())
        if self._is_replaced:
            raise FencedError(
                f"another bridge has taken over slot {self._slot}: give each bridge of a pipeline "
                "a --slot of its own"
            )
        return self.is_held

    def __enter__(self) -> Self:
        self._consumer.subscribe(
            [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_closing = True
        self._consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Only who has it counts, not what is in it.
        ends = [TopicPartition(where.topic, where.partition, OFFSET_END) for where in partitions]
        consumer.incremental_assign(ends)
        consumer.pause(ends)
        if partitions:
            self.is_held = True
            _log.info("leading")

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_unassign(partitions)
        if partitions:
            self.is_held = False
            if not self._is_closing:
                _log.warning("leadership_lost", remedy="standing by")
