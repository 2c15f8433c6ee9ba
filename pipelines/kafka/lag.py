"""How far a consumer group is behind its inputs, by what Kafka itself knows.

The position of a group is what it committed, so a lag is right even when every process of the
group is dead. Positions cannot simply be compared with the end of a partition: each transaction
ends in a marker that takes an offset, is no message, and is never passed by a position. So the
messages after the position are read: all of them where they are few, and the first SAMPLE_COUNT
where they are many; how many of the offsets in between are messages then tells how many there are
in all.

Messages of open transactions do not count: nobody can read them yet.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import (
    OFFSET_BEGINNING,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka.clients import create_sampler, is_passing
from pipelines.kafka.messages import Position
from pipelines.kafka.reading import PROGRESS_TIMEOUT_S, REQUEST_TIMEOUT_S, insist

# Messages of a partition that are looked at. What is sampled is fetched, a few hundred kilobytes
# of frames; a count up to here is exact.
SAMPLE_COUNT = 100
# Of a fetch from one partition: with frames of 5 kB about one sample.
SAMPLE_BYTES = 512 * 1024
_POLL_TIMEOUT_S = 0.2
_POLL_COUNT = 500


@dataclass(frozen=True, slots=True)
class Lag:
    """What a group has not processed yet.

    Attributes:
        messages_count: how many messages.
        is_exact: whether they were counted; else the number is an estimate.
        seconds: age of the oldest of them; 0 if there is none.
    """

    messages_count: int
    is_exact: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """The first messages after the position of a group in one partition.

    Attributes:
        offsets: their offsets, in order.
        oldest_ms: timestamp of the first one, milliseconds since the epoch; None without any.
        end: offset at which `read_committed` readers come to an end; None if the sample reaches
            up to there.
    """

    offsets: Sequence[int]
    oldest_ms: int | None
    end: int | None


def lag_of(samples: Iterable[Sample], now_ms: int) -> Lag:
    """Returns the lag over some partitions.

    Args:
        samples: one for each partition.
        now_ms: the time of day, milliseconds since the epoch.
    """
    messages_count = 0
    is_exact = True
    seconds = 0.0
    for sample in samples:
        messages_count += len(sample.offsets)
        if sample.end is not None:
            first, next_offset = sample.offsets[0], sample.offsets[-1] + 1
            if sample.end > next_offset:
                density = len(sample.offsets) / (next_offset - first)
                messages_count += round(density * (sample.end - next_offset))
                is_exact = False
        if sample.oldest_ms is not None:
            # The clock of whoever wrote it may be ahead of ours.
            seconds = max(seconds, (now_ms - sample.oldest_ms) / 1000)
    return Lag(messages_count, is_exact, seconds)


class LagReader:
    """Reads the lags of groups again and again. Not for use by several threads."""

    def __init__(self, kafka: KafkaConfig, inputs: Mapping[str, Sequence[str]]) -> None:
        """Prepares the reader; it connects on first use.

        Args:
            kafka: the cluster.
            inputs: for each consumer group, the physical names of the topics that it reads.
        """
        self._kafka = kafka
        self._inputs = inputs
        self._consumer = create_sampler(kafka, count=SAMPLE_COUNT, fetch_bytes=SAMPLE_BYTES)
        self._admin = AdminClient(
            {"log_level": 0, **kafka.options, "bootstrap.servers": kafka.bootstrap_servers}
        )

    def close(self) -> None:
        """Closes the connections."""
        self._consumer.close()

    def read(self, groups: Iterable[str]) -> dict[str, Lag]:
        """Returns the lags of groups now.

        A group that never committed anything is behind by all there is.

        Args:
            groups: some of those that the reader was made for.

        Raises:
            BrokerUnavailableError: the broker does not answer, or a topic is missing.
        """
        lags = {}
        for group in groups:
            wanted = self._partitions(self._inputs[group])
            samples = self._samples(self._positions(group, wanted))
            lags[group] = lag_of(samples.values(), time.time_ns() // 1_000_000)
        return lags

    def behind(self, group: str, ends: Mapping[Position, int]) -> set[Position]:
        """Returns the partitions in which a group has not processed everything before an offset.

        Args:
            group: any group.
            ends: for each partition that it reads, an offset that committed messages reach up to.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """
        positions = self._positions(group, list(ends))
        samples = self._samples(
            {where: at for where, at in positions.items() if max(at, 0) < ends[where]}
        )
        # Positions do not pass the markers in front of an end: what counts are messages.
        return {
            where
            for where, found in samples.items()
            if found.offsets and found.offsets[0] < ends[where]
        }

    def _partitions(self, topics: Sequence[str]) -> list[Position]:
        try:
            metadata = self._consumer.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        except KafkaException as failure:
            raise self._no_answer(failure) from None
        missing = sorted(topic for topic in topics if topic not in metadata)
        if missing:
            raise BrokerUnavailableError(
                f"there is no topic {missing[0]} at {self._kafka.bootstrap_servers}: "
                "create it with `standpipe topics apply`"
            )
        return [(topic, partition) for topic in topics for partition in metadata[topic].partitions]

    def _positions(self, group: str, partitions: Sequence[Position]) -> dict[Position, int]:
        """Returns for each partition where the group goes on reading."""
        request = ConsumerGroupTopicPartitions(group, [TopicPartition(*p) for p in partitions])

        def ask() -> list[TopicPartition]:
            futures = self._admin.list_consumer_group_offsets(
                [request], request_timeout=REQUEST_TIMEOUT_S
            )
            found: list[TopicPartition] = (
                futures[group].result(2 * REQUEST_TIMEOUT_S).topic_partitions
            )
            return found

        try:
            found = insist(ask)
        except (KafkaException, TimeoutError) as failure:
            raise self._no_answer(failure) from None
        return {
            (where.topic, where.partition): where.offset if where.offset >= 0 else OFFSET_BEGINNING
            for where in found
        }

    def _samples(self, positions: Mapping[Position, int]) -> dict[Position, Sample]:
        """Reads the first messages of partitions, or up to their end."""
        offsets: dict[Position, list[int]] = {where: [] for where in positions}
        oldest_ms: dict[Position, int] = {}
        pending = set(positions)
        ended = set()
        self._consumer.assign([TopicPartition(*where, at) for where, at in positions.items()])
        deadline_s = time.monotonic() + PROGRESS_TIMEOUT_S
        while pending:
            polled = self._consumer.consume(_POLL_COUNT, _POLL_TIMEOUT_S)
            if time.monotonic() > deadline_s:
                raise self._no_answer(f"no messages within {PROGRESS_TIMEOUT_S:.0f} s")
            for message in polled:
                where = (message.topic() or "", message.partition() or 0)
                if where not in pending:
                    continue
                error = message.error()
                if error is None:
                    oldest_ms.setdefault(where, message.timestamp()[1])
                    offsets[where].append(message.offset() or 0)
                    if len(offsets[where]) >= SAMPLE_COUNT:
                        pending.remove(where)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    ended.add(where)
                    pending.remove(where)
                elif not is_passing(error):
                    raise KafkaException(error)
        self._consumer.unassign()
        return {
            where: Sample(
                offsets=offsets[where],
                oldest_ms=oldest_ms.get(where),
                end=None if where in ended else self._end(where),
            )
            for where in positions
        }

    def _end(self, where: Position) -> int:
        try:
            _, end = insist(
                lambda: self._consumer.get_watermark_offsets(
                    TopicPartition(*where), timeout=REQUEST_TIMEOUT_S
                )
            )
        except KafkaException as failure:
            raise self._no_answer(failure) from None
        return end

    def _no_answer(self, detail: object) -> BrokerUnavailableError:
        return BrokerUnavailableError(
            f"the broker at {self._kafka.bootstrap_servers} does not answer ({detail}); is it up? "
            "`standpipe kafka status` tells"
        )
