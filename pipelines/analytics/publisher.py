"""Publishes counts: for each partition of ours a transaction with its counts and positions.

Faust's own exactly-once mode has open defects, so positions are not left to it. They are committed
here, together with what was counted, by a transactional producer for each partition number: the
same partition of all record topics belongs to one process (range assignment), and its
transactional id to that partition. A new owner starts such a producer before
it reads the positions. That ends the transaction its predecessor left open, one way or the other,
and fences it: a process that slept through a rebalance can commit nothing any more.

Limits: a transaction holds the counts that changed, `counting.MAX_CHANGED` at most, and the hours
that did, `trending.OPEN_HOURS` at most.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    BrokerResponseError,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    UnknownProducerId,
)

from pipelines.analytics.counting import Changes
from pipelines.analytics.minutes import TOPIC as MINUTES
from pipelines.analytics.trends import TOPIC as TRENDS
from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError, FencedError, RefusedByBrokerError
from pipelines.kafka.clients import TRANSACTION_TIMEOUT_MS

# aiokafka waits for ever for a broker that is away. No transaction may last longer than this.
PUBLISH_TIMEOUT_S: Final = TRANSACTION_TIMEOUT_MS / 1000 + 5
CLOSE_TIMEOUT_S: Final = 5.0

_FENCED: Final = (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    UnknownProducerId,
)


class Publisher:
    """The transactional producers of the partitions that are ours."""

    def __init__(self, kafka: KafkaConfig, stage: str, authentication: Mapping[str, Any]) -> None:
        """Prepares a publisher; `take_over` connects.

        Args:
            kafka: the cluster.
            stage: names the consumer group and the transactional ids.
            authentication: aiokafka's arguments for security.
        """
        self._kafka = kafka
        self._stage = stage
        self._authentication = authentication
        self._producers: dict[int, AIOKafkaProducer] = {}

    async def take_over(self, partitions: Iterable[int]) -> None:
        """Becomes the one who publishes these partitions, and gives up all others.

        What predecessors committed can be read when it returns.

        Raises:
            BrokerUnavailableError: the broker does not answer.
            RefusedByBrokerError: the broker does not let us write.
        """
        await self.close()
        self._producers = {partition: self._producer(partition) for partition in partitions}
        await self._all(producer.start() for producer in self._producers.values())

    async def publish(self, changes: Mapping[int, Changes]) -> None:
        """Commits counts and positions, each partition in a transaction of its own.

        After an error the producers are of no use: what they did is unknown until the next owner
        of a partition, such as the same process in its next life, takes over.

        Raises:
            BrokerUnavailableError: the broker does not answer.
            FencedError: a partition belongs to another process now, or a transaction timed out.
            RefusedByBrokerError: the broker will never take a message.
        """
        await self._all(self._commit(partition, each) for partition, each in changes.items())

    async def close(self) -> None:
        """Gives up all partitions; what is not committed never will be."""
        producers, self._producers = self._producers, {}
        stops = (producer.stop() for producer in producers.values())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.gather(*stops, return_exceptions=True)

    def _producer(self, partition: int) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=self._kafka.bootstrap_servers.split(","),
            client_id=self._kafka.group(self._stage),
            transactional_id=self._kafka.transactional_id(self._stage, str(partition)),
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            compression_type="zstd",
            **self._authentication,
        )

    async def _commit(self, partition: int, changes: Changes) -> None:
        producer = self._producers[partition]
        minutes, trends = self._kafka.topic(MINUTES), self._kafka.topic(TRENDS)
        await producer.begin_transaction()
        deliveries = [
            *[await producer.send(minutes, n.value, n.key, partition) for n in changes.counts],
            *[await producer.send(trends, n.value, n.key, partition) for n in changes.trends],
        ]
        await producer.send_offsets_to_transaction(
            {TopicPartition(*where): offset for where, offset in changes.next_offsets.items()},
            self._kafka.group(self._stage),
        )
        await asyncio.gather(*deliveries)
        await producer.commit_transaction()

    async def _all(self, calls: Iterable[Awaitable[None]]) -> None:
        """Makes calls at once; waits for each, and raises what the first that failed raised."""
        with self._translated():
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Raises our errors for those of aiokafka."""
        try:
            yield
        except _FENCED as error:
            raise FencedError(f"another process took over a partition ({error!r})") from None
        except TimeoutError:
            raise self._unavailable("no answer") from None
        except BrokerResponseError as error:
            if error.retriable:
                raise self._unavailable(repr(error)) from None
            raise RefusedByBrokerError(
                f"the broker refuses to commit counts to {self._kafka.topic(MINUTES)} or "
                f"{self._kafka.topic(TRENDS)}: {error!r}"
            ) from None
        except KafkaError as error:
            raise self._unavailable(repr(error)) from None

    def _unavailable(self, why: str) -> BrokerUnavailableError:
        return BrokerUnavailableError(
            f"the broker at {self._kafka.bootstrap_servers} does not commit ({why}); "
            "is it up? `standpipe kafka status` tells"
        )
