"""Faust reading committed messages only.

Faust 0.15 reads uncommitted ones, those of aborted transactions among them, unless its own
exactly-once mode is on (`faust.transport.drivers.aiokafka` has it in the code, not in a setting).
This transport is Faust's with that one thing changed.

    app = faust.App("my-app", broker="kafka://127.0.0.1:9092")
    read_committed(app)
"""

from typing import ClassVar

import faust
from aiokafka import AIOKafkaConsumer
from faust.transport.drivers import aiokafka as driver
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


class Consumer(driver.Consumer):
    """Faust's consumer, with our thread."""

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class Transport(driver.Transport):
    """Faust's transport, with our consumer."""

    Consumer: ClassVar[type[ConsumerT]] = Consumer
