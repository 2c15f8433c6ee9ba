"""Faust reading committed messages only, and losing none at a rebalance.

Faust 0.15 reads uncommitted ones, those of aborted transactions among them, unless its own
exactly-once mode is on (`faust.transport.drivers.aiokafka` has it in the code, not in a setting).

A fetch that was begun before a rebalance may end after it, with messages of the new assignment:
aiokafka's `Fetcher.fetched_records` waits for that. Faust leaves them out, since the flow is
stopped, and seeks to what is committed; where nothing is, it reads on behind them.

This transport is Faust's with these two things changed.

    app = faust.App("my-app", broker="kafka://127.0.0.1:9092")
    read_committed(app)
"""

from typing import ClassVar

import faust
from aiokafka import AIOKafkaConsumer
from faust.transport.consumer import RecordMap
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.transports import ConsumerT


def read_committed(app: faust.App) -> None:
    """Makes a Faust application read committed messages only; to be called before it starts."""
    app.transport = Transport(app.conf.broker_consumer, app)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's thread around aiokafka's consumer."""

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Read when it starts; what the constructor would have been given.
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - Faust passes no arguments on
        return consumer

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> RecordMap:
        """Fetches messages, and puts back those of an assignment that came meanwhile.

        It runs in the loop that takes over assignments, and the generation changes there before
        any fetch goes on.
        """
        generation = self.app.consumer_generation_id
        records = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        if generation == self.app.consumer_generation_id:
            return records
        for position, messages in records.items():
            consumer.seek(position, messages[0].offset)
        return {}


class Consumer(driver.Consumer):
    """Faust's consumer, with our thread."""

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class Transport(driver.Transport):
    """Faust's transport, with our consumer."""

    Consumer: ClassVar[type[ConsumerT]] = Consumer
