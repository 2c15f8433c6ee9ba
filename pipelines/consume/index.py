"""Reads what an index is made of, from a real cluster, and hands it out in batches.

Partitions are given to a process by hand, and not by a consumer group. The positions of a group
would be a second truth beside those in the index, and a rebalance would give a partition to a
process whose index has nothing of it. So whoever shares the work gives each process some numbers
of partitions; number n of `repos` and of all `latest.*` has the same accounts, and comes together.

Batches are bounded (`assembly.BATCH_BYTES`, the number of changes), and so is what the client
fetches ahead: nothing is read while a batch is worked on.
"""

import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.consume.assembly import Assembly, Batch
from pipelines.consume.positions import Position, Span, Topics, is_too_old, problems, too_old
from pipelines.consume.selection import Selection, select
from pipelines.errors import BrokerUnavailableError, ConfigError, RebuildRequiredError
from pipelines.kafka.admin import check_partitions, tombstone_life_ms, topic_ids
from pipelines.kafka.admission import TOPIC as TABLES
from pipelines.kafka.admission import parse_table
from pipelines.kafka.admitting import deployed
from pipelines.kafka.clients import create_strict_reader, is_passing
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.reading import input_message, log_ends, log_starts

# Changes of a batch: large enough that an index's transaction costs little for each of them.
BATCH_COUNT: Final = 5_000
# What comes within this time after a message is in its batch. Adds as much to the delay.
LINGER_S: Final = 0.1
# How often the topics are looked at again, and their ends noted, while an index follows them. For
# so much less than a null's life it may be away.
LOOK_INTERVAL_S: Final = 60.0
_POLL_TIMEOUT_S: Final = 0.5

_REMEDY: Final = "build the index anew: give it an empty one, without stored positions"

_log = logs.get_logger("consume")


class Index:
    """What an index is made of: everything there is, then each change of it."""

    def __init__(
        self,
        kafka: KafkaConfig,
        collections: Collection[str] | None,
        positions: Mapping[int, str],
        *,
        partitions: Collection[int] | None = None,
        batch_count: int = BATCH_COUNT,
        should_stop: Callable[[], bool] = lambda: False,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Takes what is wanted; nothing is read yet.

        Args:
            kafka: the cluster and the prefix.
            collections: the NSIDs whose records are wanted; None for all there are.
            positions: what the index has stored of `Batch.positions`, by partition; empty for a
                new index.
            partitions: numbers of the partitions that are wanted, for indexes that several
                processes share; None for all.
            batch_count: changes of a batch at most.
            should_stop: asked between batches and while nothing comes; ends `batches`.
            clock_ms: milliseconds since the epoch.
        """
        self._kafka = kafka
        self._collections = None if collections is None else tuple(sorted(set(collections)))
        self._stored = dict(positions)
        self._wanted = None if partitions is None else frozenset(partitions)
        self._batch_count = batch_count
        self._should_stop = should_stop
        self._clock_ms = clock_ms
        # What does not depend on partitions: which collections have topics of their own.
        self._tables = (kafka.topic(TABLES), 0)

    def batches(self) -> Generator[Batch, None, None]:
        """Yields batches, of what there is and then of what comes, until asked to stop.

        Each batch goes into the index whole, with its positions, before the next one is asked
        for. A loop that is left, by `break`, Ctrl-C or an error, leaves nothing behind.

        Raises:
            RebuildRequiredError: the index cannot be continued; the message says why.
            ConfigError: topics or partitions are missing, or the index has other partitions.
            BrokerUnavailableError: no broker answers at the start. Later it is waited for.
        """
        begun_ms = self._clock_ms()
        selection, topics = _observe(self._kafka, self._collections)
        positions = self._resume(topics, begun_ms)
        assembly = Assembly(
            positions,
            {number: self._stored[number] for number in positions if number in self._stored},
            batch_count=self._batch_count,
        )
        assembly.begin_topics(topics, begun_ms)
        consumer = create_strict_reader(self._kafka)
        try:
            yield from self._follow(consumer, assembly, selection, topics)
        finally:
            consumer.close()

    def _follow(
        self, consumer: Consumer, assembly: Assembly, selection: Selection, topics: Topics
    ) -> Iterator[Batch]:
        self._assign(consumer, assembly)
        tables_count = 0
        look_at_s = time.monotonic() + LOOK_INTERVAL_S
        while not self._should_stop():
            if assembly.is_news:
                oldest = assembly.oldest
                if is_too_old(oldest, topics.tombstone_life_ms, self._clock_ms()):
                    raise _rebuild([too_old(oldest, topics.tombstone_life_ms)])
                yield assembly.take()
            tables_count = max(tables_count, self._fill(consumer, assembly, selection))
            is_due = assembly.is_at_ends and time.monotonic() >= look_at_s
            if is_due or tables_count > selection.tables_count:
                look_at_s = time.monotonic() + LOOK_INTERVAL_S
                try:
                    selection, topics = self._look(consumer, assembly)
                except BrokerUnavailableError as error:
                    _log.warning("waiting", detail=str(error))

    def _fill(self, consumer: Consumer, assembly: Assembly, selection: Selection) -> int:
        """Reads what comes, for a batch.

        Returns:
            The number of the newest table of admitted collections that was read, or 0.
        """
        newest = 0
        deadline_s: float | None = None
        while not assembly.is_full:
            left_s = _POLL_TIMEOUT_S if deadline_s is None else deadline_s - time.monotonic()
            polled = consumer.poll(max(left_s, 0))
            if polled is None:
                break
            error = polled.error()
            if error is None:
                message = input_message(polled)
                if (message.topic, message.partition) == self._tables:
                    newest = max(newest, _table_number(message))
                else:
                    assembly.add(message, selection)
                if deadline_s is None:
                    deadline_s = time.monotonic() + LINGER_S
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                topic, partition, offset = polled.topic(), polled.partition(), polled.offset()
                assert topic is not None
                assert partition is not None
                assert offset is not None
                if (topic, partition) != self._tables:
                    assembly.reach(topic, partition, offset)
            elif not is_passing(error):
                raise translated(error)
        return newest

    def _resume(self, topics: Topics, now_ms: int) -> dict[int, Position]:
        """Returns where to begin in each partition."""
        count = topics.partitions_count
        wanted = range(count) if self._wanted is None else sorted(self._wanted)
        missing = [str(number) for number in wanted if not 0 <= number < count]
        if missing:
            raise ConfigError(
                f"there is no partition {', '.join(missing)}: the topics have {count}, from 0 on"
            )
        positions = {}
        found: list[str] = []
        for number in wanted:
            text = self._stored.get(number)
            if text is None:
                positions[number] = Position(
                    number, count, topics.collections, topics.topic_ids, {}, now_ms, False
                )
                continue
            try:
                positions[number] = Position.parse(text)
            except ValueError as error:
                found.append(f"what it has stored for partition {number} is {error}")
            else:
                found += problems(positions[number], topics, now_ms)
                if positions[number].partition != number:
                    found.append(f"what it has stored for partition {number} is of another one")
        if found:
            raise _rebuild(found)
        return positions

    def _look(self, consumer: Consumer, assembly: Assembly) -> tuple[Selection, Topics]:
        """Looks again at what there is to read: notes the ends, and takes in what is new.

        What was read so far has to be of the same topics still, as at a start.
        """
        noted_ms = self._clock_ms()
        selection, topics = _observe(self._kafka, self._collections)
        found = [
            problem
            for position in assembly.positions
            for problem in problems(position, topics, noted_ms)
        ]
        if found:
            raise _rebuild(found)
        before = assembly.next_offsets.keys()
        assembly.begin_topics(topics, noted_ms)
        if assembly.next_offsets.keys() != before:
            self._assign(consumer, assembly)
            _log.info("tables_changed", tables=selection.tables_count)
        return selection, topics

    def _assign(self, consumer: Consumer, assembly: Assembly) -> None:
        """Reads on from where the assembly is; the tables from their beginning."""
        wanted = {**assembly.next_offsets, self._tables: 0}
        consumer.assign([TopicPartition(*where, offset) for where, offset in wanted.items()])


def _observe(kafka: KafkaConfig, collections: tuple[str, ...] | None) -> tuple[Selection, Topics]:
    """Looks at what there is to read.

    Raises:
        BrokerUnavailableError: no broker answers.
        ConfigError: a topic is missing, or counts of partitions differ.
    """
    check_partitions(kafka, [TABLES])
    known, admissions = deployed(kafka, to_true_end=True)
    selection = select(kafka, collections, admissions)
    logical = ["repos", *(f"latest.{home}" for home in selection.names)]
    count = check_partitions(kafka, logical, known)["repos"]
    wanted = [(topic, number) for topic in selection.topics for number in range(count)]
    starts, ends = log_starts(kafka, wanted), log_ends(kafka, wanted)
    return selection, Topics(
        count,
        collections,
        topic_ids(kafka, selection.topics),
        {where: Span(starts[where] or 0, ends[where]) for where in wanted},
        tombstone_life_ms(kafka, selection.topics),
    )


def _table_number(message: InputMessage) -> int:
    """Returns the number of a table that is in force, or 0 for anything else."""
    if message.value is None:
        return 0
    table = parse_table(message.value)
    return 0 if table.next_offsets is None else table.number


def translated(error: KafkaError) -> Exception:
    """Returns what to raise for an error of the consumer that does not pass.

    Args:
        error: of a poll.
    """
    if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its public name
        return _rebuild([f"messages were deleted before they were read ({error.str()})"])
    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return ConfigError(
            f"a topic is not there any more ({error.str()}): start again, which tells whether the "
            "index can be continued"
        )
    return KafkaException(error)


def _rebuild(found: Iterable[str]) -> RebuildRequiredError:
    return RebuildRequiredError(*(f"{problem}: {_REMEDY}" for problem in found))
