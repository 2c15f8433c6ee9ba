"""The thread that writes what the readers hand over, one transaction after another.

    take a batch
    [ begin → frames, quarantine, cursors, gaps → wait for offsets → epochs → commit ]

A cursor moves with the frames or not at all. That of an upstream whose event another one brought
first moves in the same transaction or a later one, since the queue between keeps their order.
While the broker is away a transaction is repeated until it is back, and the queue behind it fills.
spec: F-28
"""

import threading
import time
from collections.abc import Callable

from pipelines import logs
from pipelines.bridge.handover import Handover
from pipelines.bridge.messages import Batch, Outputs, batch_of, cursors_of, epochs_of, gaps_of
from pipelines.bridge.progress import Published, delay_s_of
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka.transaction import CALL_TIMEOUT_S, Transaction, TransactionalProducer

# What a stop may take to write the rest of the queue. What is left then is not lost: the cursor
# does not cover it, so the next start fetches it again.
DRAIN_TIMEOUT_S = 10.0
# A call on the broker that was begun in time still runs out, and so does the abort after it.
_JOIN_TIMEOUT_S = DRAIN_TIMEOUT_S + 4 * CALL_TIMEOUT_S

_log = logs.get_logger("bridge")


class Deadline:
    """A moment that is set once; until then it lies in the future."""

    def __init__(self) -> None:
        self._at_s = float("inf")

    def set(self, timeout_s: float) -> None:
        """Sets it, from now on."""
        self._at_s = time.monotonic() + timeout_s

    def has_passed(self) -> bool:
        """Whether it is over."""
        return time.monotonic() >= self._at_s


class Publisher:
    """Owns the producer while its thread runs.

    Attributes:
        published: what was committed so far.
    """

    def __init__(
        self,
        producer: TransactionalProducer,
        deadline: Deadline,
        handover: Handover,
        outputs: Outputs,
        *,
        next_offsets: dict[int, int],
        clock_us: Callable[[], int],
        published: Published,
    ) -> None:
        """Wires the publisher.

        Args:
            producer: started; it must ask `deadline` whether to give up.
            deadline: set by `stop`.
            handover: where the entries come from.
            outputs: where to.
            next_offsets: for each partition of `frames`, the offset after its last message.
            clock_us: the time of day in microseconds since the epoch.
            published: counts, to be continued.
        """
        self._producer = producer
        self._deadline = deadline
        self._handover = handover
        self._outputs = outputs
        self._next_offsets = next_offsets
        self._clock_us = clock_us
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self.published = published

    @property
    def is_running(self) -> bool:
        """Whether the thread still takes what is handed over."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, *, drains: bool = True) -> None:
        """Publishes what was handed over, within `DRAIN_TIMEOUT_S`, and ends the thread.

        Args:
            drains: whether it does, and does not drop it.

        Raises:
            FencedError: another bridge took over, or a transaction timed out on the broker.
            BrokerUnavailableError: the broker was away, so that not everything was published.
            Exception: whatever else ended the thread.
        """
        self._deadline.set(DRAIN_TIMEOUT_S if drains else 0)
        self._handover.close()
        self._thread.join(_JOIN_TIMEOUT_S)
        if self._failure is not None:
            raise self._failure
        if self._thread.is_alive():
            raise BrokerUnavailableError(
                "the last transaction does not end; the next start resolves it"
            )

    def _run(self) -> None:
        try:
            while (entries := self._handover.take()) and not self._deadline.has_passed():
                self._publish(batch_of(entries, self._outputs))
        except BaseException as error:  # noqa: BLE001 - raised again by `stop`, in its thread
            self._failure = error

    def _publish(self, batch: Batch) -> None:
        next_offsets = dict(self._next_offsets)

        def body(transaction: Transaction) -> None:
            for message in batch.frames:
                transaction.produce(message, wants_offset=True)
            for message in (
                *batch.quarantined,
                *cursors_of(batch, self._outputs, self._clock_us()),
                *gaps_of(batch, self._outputs, self._next_offsets),
            ):
                transaction.produce(message)
            if batch.spans:
                delivered = transaction.delivered_offsets()
                next_offsets.update({number: offset for (_, number), offset in delivered.items()})
                for message in epochs_of(batch, self._outputs, next_offsets):
                    transaction.produce(message)

        begun_s = time.monotonic()
        self._producer.run(body)
        took_ms = round((time.monotonic() - begun_s) * 1000)
        self.published.transaction_ms += took_ms
        self.published.transaction_times.add(took_ms)
        self._next_offsets = next_offsets
        self._count(batch)

    def _count(self, batch: Batch) -> None:
        published = self.published
        published.transactions_count += 1
        published.frames_count += len(batch.frames)
        for frame in batch.frames:
            size_bytes = len(frame.value or b"")
            published.frames_bytes += size_bytes
            published.frame_sizes.add(size_bytes)
        published.quarantined_count += len(batch.quarantined)
        published.gaps_count += len(batch.gaps)
        for origin, position in batch.positions.items():
            published.positions[origin.host] = position
            delay_s = delay_s_of(position)
            if delay_s is not None:
                published.event_delays.add(round(delay_s * 1000))
        for origin, gap, position in batch.gaps:
            _log.warning(
                "gap",
                host=origin.host,
                reason=gap.reason,
                from_seq=gap.after.seq,
                from_time=gap.after.time,
                to_seq=position.seq,
                to_time=position.time,
                remedy="repositories that changed meanwhile have to be fetched again",
            )
        if batch.quarantined:
            headers = dict(batch.quarantined[0].headers)
            _log.warning(
                "quarantined",
                host=headers["host"].decode(),
                count=len(batch.quarantined),
                reason=headers["q.reason"].decode(),
                detail=headers["q.detail"].decode(),
            )
