"""The transactional loop: how every stage reads, computes and writes exactly once.

    poll → prepare → process → [ begin → produce → send offsets → commit ] → poll

The contract

1.  No transaction is open while the consumer is polled. A rebalance so never finds anything to
    drain: what was read and is not yet committed is forgotten, and its next owner reads it again.
2.  Outputs and the positions of their inputs are in one transaction. Positions go with the
    consumer's current group metadata; a member that lost its partitions cannot commit.
3.  A transaction that was aborted is run again with the same outputs.
4.  Messages of a partition are processed in order, and offsets strictly increase.
5.  A stage that needs something that is away raises `TransientError`. What it finished before is
    published; the rest waits, with the partitions paused, while the consumer is polled on.
6.  A position that the broker no longer has stops the process: data was deleted unread.
7.  A batch ends at BATCH_MESSAGES messages or BATCH_BYTES of input; a transaction ends at
    TRANSACTION_BYTES of output. Both limits can be passed by one message.
8.  A stage with state restores it after each assignment, before the first message of it. The order
    is: assignment, committed positions (which wait for a predecessor's pending ones), restore,
    messages. It learns of every commit, and of everything that was forgotten.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.errors import (
    BrokerUnavailableError,
    FencedError,
    HungCallError,
    OffsetLostError,
    TransientError,
)
from pipelines.kafka.beat import State
from pipelines.kafka.clients import create_group_consumer, is_passing
from pipelines.kafka.counts import LoopCounts
from pipelines.kafka.messages import InputMessage, OutputMessage, Position
from pipelines.kafka.reading import input_message
from pipelines.kafka.transaction import (
    CALL_TIMEOUT_S,
    GroupMovedOnError,
    Transaction,
    TransactionalProducer,
)

# At 350 events/s and 30 ms a transaction a batch has about ten messages; the limit is for
# catching up. A commit takes 50 ms and more, in which nothing is computed: of 500 messages that
# would be a third of the time, of these a tenth. They are some 11 MB of frames.
BATCH_MESSAGES = 2_000
BATCH_BYTES = 16 * 1024 * 1024
TRANSACTION_BYTES = 16 * 1024 * 1024
# How long an empty poll waits; also how soon a stop is noticed.
POLL_TIMEOUT_S = 0.2
DEFAULT_RETRY_S = 1.0
# An idle stage commits the positions of inputs that had no output after this time.
POSITION_COMMIT_S = 5.0
SUMMARY_INTERVAL_S = 10.0
RIVAL_WINDOW_S = 60.0
# Before a life that found no broker is followed by the next one.
RESTART_PAUSE_S = 1.0

_log = logs.get_logger("kafka")


class Background(NamedTuple):
    """Outputs that no input asks for now, such as a slice of a large piece of work.

    Attributes:
        partition: of the inputs that the work belongs to; the position in one of them goes into
            the transaction, so that a member that lost the partition cannot commit the slice.
        outputs: what to write; nothing if the slice only prepared the next one.
    """

    partition: int
    outputs: Sequence[OutputMessage]


class Stage(Protocol):
    """What a stage has to provide. It knows nothing of offsets, groups and transactions."""

    def prepare(self, batch: Sequence[InputMessage]) -> None:
        """Fetches what the batch needs, all at once. It must not fail for a single message.

        Raises:
            TransientError: something that every message needs is away now.
        """

    def process(self, message: InputMessage) -> Sequence[OutputMessage]:
        """Computes the outputs of one message, the next of the batch that was prepared.

        It is called again for the same message after a `TransientError`, a `discard` or a
        restart, and must then give outputs of the same meaning. A stage with state changes it
        only together with an output, and reads what it changed itself before it was committed.

        Raises:
            TransientError: something it needs is away now.
        """

    def restore(self, partitions: Sequence[int]) -> Iterator[None]:
        """Makes the state of newly assigned partitions current; others are given up.

        Everything that predecessors committed can be read when it is called. It yields every now
        and then, so that the group hears of us during a long restore; it is not resumed when the
        assignment has changed meanwhile.
        """

    def background(self, partitions: Collection[int]) -> Background | None:
        """Returns the next slice of work that no input asks for.

        Asked between batches, and while one waits for something that is away.

        Args:
            partitions: those that such work may belong to now.
        """

    def committed(self, next_offsets: Mapping[Position, int]) -> None:
        """Tells that everything since the last call was committed.

        Args:
            next_offsets: for each partition written to, the offset after our last message.
        """

    def discard(self) -> None:
        """Tells that what was computed since the last commit counts for nothing."""


@dataclass(slots=True)
class _Batch:
    """Messages read but not committed; `generation` tells whether they are still ours."""

    messages: list[InputMessage] = field(default_factory=list)
    size_bytes: int = 0
    generation: int = 0


class TransactionalLoop:
    """Runs one stage in one consumer group member."""

    def __init__(
        self,
        kafka: KafkaConfig,
        *,
        stage_name: str,
        slot: str,
        topics: Sequence[str],
        stage: Stage,
        should_stop: Callable[[], bool],
        counts: LoopCounts | None = None,
    ) -> None:
        """Prepares a loop; `run` connects.

        Args:
            kafka: the cluster.
            stage_name: names the consumer group and the transactional id.
            slot: stable name of this worker among its stage's workers.
            topics: physical names of the inputs.
            stage: what to compute.
            should_stop: asked between batches.
            counts: those of an earlier loop of this process, to be continued.
        """
        self._topics = list(topics)
        self._stage = stage
        self._should_stop = should_stop
        self._log = logs.get_logger(stage_name)
        self._producer = TransactionalProducer(
            kafka, kafka.transactional_id(stage_name, slot), should_stop
        )
        self._consumer: Consumer = create_group_consumer(kafka, kafka.group(stage_name))
        self._generation = 0
        self._next_offsets: dict[Position, int] = {}
        # After the last message that was worked off: what guards work that no input asks for.
        self._done_offsets: dict[Position, int] = {}
        self._must_restore = False
        # Done but not yet committed, because there was no output to commit them with.
        self._finished: dict[Position, int] = {}
        self._finished_since_s = 0.0
        self._last_summary_s = time.monotonic()
        self._slot = slot
        self.counts = counts or LoopCounts()

    def run(self) -> None:
        """Runs until `should_stop`; then commits what is done and leaves the group.

        Raises:
            BrokerUnavailableError: the broker does not answer at the start.
            FencedError: another process took this slot, or a transaction timed out.
            OffsetLostError: the broker deleted data that was not read.
        """
        self._producer.start()
        self._consumer.subscribe(
            self._topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )
        self.counts.state = State.RUNNING
        try:
            has_background = False
            while not self._should_stop():
                if self._must_restore:
                    self._restore()
                batch = self._read_batch(0 if has_background else POLL_TIMEOUT_S)
                while batch.messages and not self._should_stop():
                    batch = self._work_off(batch)
                    if batch.messages:
                        # What it waits for may depend on work that no input asks for.
                        self._work_in_background()
                        if batch.generation != self._generation:
                            batch = _Batch(generation=self._generation)
                has_background = self._work_in_background()
                if time.monotonic() - self._finished_since_s > POSITION_COMMIT_S:
                    self._commit_finished()
                self._summarise()
            self._commit_finished()
        finally:
            self._consumer.close()

    # ---- reading -------------------------------------------------------------------------

    def _restore(self) -> None:
        """Restores the stage's state; the partitions were paused when they were assigned."""
        generation = self._generation
        assignment = self._consumer.assignment()
        try:
            for _ in self._stage.restore(sorted({where.partition for where in assignment})):
                self._consumer.poll(0)
                if generation != self._generation or self._should_stop():
                    return
        except TransientError as error:
            # From the start again, after the next poll: what was restored so far is kept.
            self._log.warning("waiting", detail=str(error))
            self.counts.waits_count += 1
            return
        self._must_restore = False
        self.counts.state = State.RUNNING
        self._consumer.resume(assignment)

    def _read_batch(self, timeout_s: float) -> _Batch:
        batch = _Batch(generation=self._generation)
        while len(batch.messages) < BATCH_MESSAGES and batch.size_bytes < BATCH_BYTES:
            polled = self._consumer.poll(timeout_s)
            if batch.generation != self._generation:
                # What was read before the rebalance will be read again by its owner.
                batch = _Batch(generation=self._generation)
            if polled is None:
                break
            message = self._accept(polled)
            if message is not None:
                batch.messages.append(message)
                batch.size_bytes += len(message.value or b"")
            timeout_s = 0
        return batch

    def _accept(self, polled: Message) -> InputMessage | None:
        error = polled.error()
        if error is not None:
            if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its public name
                raise OffsetLostError(
                    f"the broker deleted messages of {polled.topic()} that were not read yet "
                    f"({error.str()}); start a replay, or move the group "
                    "forward with Kafka's own kafka-consumer-groups if the loss is accepted"
                )
            if error.fatal():
                raise KafkaException(error)
            self._log.warning("consume_error", code=error.name(), detail=error.str())
            return None
        message = input_message(polled)
        where = (message.topic, message.partition)
        expected = self._next_offsets.get(where, 0)
        if message.offset < expected:
            raise AssertionError(f"offset {message.offset} of {where} after {expected}")
        self._next_offsets[where] = message.offset + 1
        return message

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget_unfinished()
        # Read-committed, so this waits for positions in a predecessor's open transaction.
        committed = _committed(consumer, partitions)
        consumer.assign(committed)
        consumer.pause(committed)
        self._must_restore = True
        self.counts.state = State.RESTORING
        self.counts.partitions_count = len({where.partition for where in partitions})
        self._next_offsets = {
            (where.topic, where.partition): where.offset for where in committed if where.offset > 0
        }
        self._done_offsets = dict(self._next_offsets)
        self._log.info("assigned", partitions=[where.partition for where in partitions])

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget_unfinished()
        consumer.unassign()
        self._done_offsets = {}
        self.counts.partitions_count = 0
        self._log.info("revoked", partitions=[where.partition for where in partitions])

    def _forget_unfinished(self) -> None:
        self._generation += 1
        self._finished.clear()
        self._stage.discard()

    # ---- working -------------------------------------------------------------------------

    def _work_off(self, batch: _Batch) -> _Batch:
        """Processes and publishes a batch as far as it gets; returns what is left of it."""
        waits_for: TransientError | None = None
        outputs: list[OutputMessage] = []
        output_bytes = 0
        done_count = 0
        begun_s = time.monotonic()
        try:
            self._stage.prepare(batch.messages)
            for message in batch.messages:
                results = self._stage.process(message)
                outputs += results
                output_bytes += sum(result.size_bytes for result in results)
                done_count += 1
                if output_bytes >= TRANSACTION_BYTES:
                    break
        except TransientError as error:
            waits_for = error
        if done_count:
            self.counts.batch_times.add(round((time.monotonic() - begun_s) * 1000))
            self.counts.batch_sizes.add(done_count)
        done = batch.messages[:done_count]
        try:
            self._publish(outputs, output_bytes, _positions(done))
        except GroupMovedOnError as error:
            # The consumer may not know yet, or may have joined again already: either way what
            # was read but not committed must be read again by whoever owns it.
            self._log.warning("group_moved_on", detail=str(error))
            self._rewind()
            return _Batch(generation=self._generation)
        self._done_offsets |= _positions(done)
        self.counts.inputs_count += done_count
        rest = _Batch(batch.messages[done_count:], generation=batch.generation)
        if waits_for is not None:
            self._wait(waits_for)
            if rest.generation != self._generation:
                return _Batch(generation=self._generation)
        return rest

    def _work_in_background(self) -> bool:
        """Publishes a slice of the stage's own work; returns whether there was one."""
        if self._must_restore:
            return False
        # A slice is guarded by a position of its partition: before the first message there is
        # none. Any input will do, because a member has the same partitions of all of them.
        guards = {where[1]: where for where in self._done_offsets}
        work = self._stage.background(guards.keys())
        if work is None:
            return False
        where = guards[work.partition]
        try:
            size_bytes = sum(output.size_bytes for output in work.outputs)
            self._publish(work.outputs, size_bytes, {where: self._done_offsets[where]})
        except GroupMovedOnError as error:
            self._log.warning("group_moved_on", detail=str(error))
            self._rewind()
        return True

    def _publish(
        self, outputs: Sequence[OutputMessage], output_bytes: int, positions: dict[Position, int]
    ) -> None:
        if not self._finished:
            self._finished_since_s = time.monotonic()
        finished = self._finished | positions
        if not outputs and (positions or not finished):
            # Transactions are dear: the positions go with the next one that has an output.
            self._finished = finished
            return

        def body(transaction: Transaction) -> None:
            for output in outputs:
                transaction.produce(output, wants_offset=True)
            transaction.send_offsets(finished, self._consumer.consumer_group_metadata())

        started_s = time.monotonic()
        written = self._producer.run(body)
        self._stage.committed(written)
        self._finished = {}
        took_ms = round((time.monotonic() - started_s) * 1000)
        self.counts.transaction_ms += took_ms
        self.counts.transaction_times.add(took_ms)
        self.counts.transactions_count += 1
        self.counts.outputs_count += len(outputs)
        self.counts.output_bytes += output_bytes

    def _commit_finished(self) -> None:
        """Commits the positions that no output has taken along."""
        try:
            self._publish([], 0, {})
        except GroupMovedOnError as error:
            # Their next owner finds that they have no output, as we did.
            self._log.warning("group_moved_on", detail=str(error))
            self._rewind()

    def _rewind(self) -> None:
        """Goes back to the committed positions of whatever is assigned now."""
        self._forget_unfinished()
        assignment = self._consumer.assignment()
        if assignment:
            self._assigned(self._consumer, assignment)

    def _wait(self, error: TransientError) -> None:
        """Waits with the partitions paused, but stays a member of the group."""
        retry_s = DEFAULT_RETRY_S if error.retry_after_s is None else error.retry_after_s
        self._log.warning("waiting", detail=str(error), retry_s=retry_s)
        self.counts.waits_count += 1
        self.counts.waits_for = str(error)
        generation = self._generation
        deadline_s = time.monotonic() + retry_s
        self._consumer.pause(self._consumer.assignment())
        while (
            generation == self._generation
            and not self._should_stop()
            and time.monotonic() < deadline_s
        ):
            # What it waits for may depend on work that no input asks for. Polling delivers
            # nothing: a new assignment is paused, too.
            is_busy = self._work_in_background()
            self._consumer.poll(0 if is_busy else POLL_TIMEOUT_S)
        self.counts.waits_for = None
        if generation == self._generation:
            self._consumer.resume(self._consumer.assignment())

    def _summarise(self) -> None:
        now_s = time.monotonic()
        if now_s - self._last_summary_s >= SUMMARY_INTERVAL_S:
            self._last_summary_s = now_s
            self._log.info(
                "progress",
                slot=self._slot,
                inputs=self.counts.inputs_count,
                outputs=self.counts.outputs_count,
                transactions=self.counts.transactions_count,
                waits=self.counts.waits_count,
            )


class Runnable(Protocol):
    """What owns a transactional producer and runs until it is asked to stop."""

    def run(self) -> None:
        """Runs; raises `FencedError` when its producer is done for."""


def run_restarting(create: Callable[[], Runnable], should_stop: Callable[[], bool]) -> None:
    """Runs what `create` makes, and makes it anew when its producer is done for.

    A transaction that timed out while the broker was away fences its producer, and a fresh one
    goes on, as soon as there is a broker again. A rival process in the same slot fences it too;
    that would go on for ever, so a second time within RIVAL_WINDOW_S ends the process.

    Raises:
        BrokerUnavailableError: the broker is away at the first start, or when it has to stop.
        FencedError: fenced again so soon.
    """
    fenced_at_s = -RIVAL_WINDOW_S
    is_first = True
    while not should_stop():
        try:
            create().run()
        except HungCallError as error:
            _log.warning("hung", detail=str(error), remedy="starting again")
        except FencedError as error:
            now_s = time.monotonic()
            if now_s - fenced_at_s < RIVAL_WINDOW_S:
                raise
            fenced_at_s = now_s
            _log.warning("fenced", detail=str(error), remedy="starting again once")
        except BrokerUnavailableError as error:
            if is_first or should_stop():
                raise
            _log.warning("broker_unreachable", detail=str(error), remedy="starting again")
            time.sleep(RESTART_PAUSE_S)
        is_first = False


def _positions(messages: Sequence[InputMessage]) -> dict[Position, int]:
    return {(message.topic, message.partition): message.offset + 1 for message in messages}


def _committed(consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """Returns the partitions at their committed positions, or at their beginning."""
    while True:
        try:
            found = consumer.committed(partitions, CALL_TIMEOUT_S)
        except KafkaException as failure:
            if not is_passing(failure.args[0]):
                raise
            continue
        return [
            where
            if where.offset >= 0
            else TopicPartition(where.topic, where.partition, OFFSET_BEGINNING)
            for where in found
        ]
