"""The Faust application: a stream of record messages, and word of who owns which partition.

What Faust does here: membership in the group, fetching, back-pressure, decoding into `Record`, the
agent. What it does not: positions (`publisher` commits them), tables and their changelogs, a web
server, a leader, and topics: `standpipe topics apply` creates those, nobody else.
"""

from collections.abc import Iterable
from typing import ClassVar, Final, Protocol

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from faust.app.base import BootStrategy as FaustBootStrategy
from faust.transport.consumer import RecordMap
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.auth import CredentialsT
from faust.types.streams import StreamT
from faust.types.transports import ConsumerT
from mode import get_logger

from pipelines.analytics import transport
from pipelines.analytics.records import Record
from pipelines.config import KafkaConfig
from pipelines.kafka.clients import SESSION_TIMEOUT_MS
from pipelines.kafka.messages import Position

# Records between Faust's consumer and the agent; with as many nothing more is fetched. A record
# has up to 8 MiB, but nearly all have less than 2 kB.
BUFFERED_RECORDS_COUNT: Final = 1_000


class RecordAgent(Protocol):
    """Who counts the records and has to know whose they are."""

    async def assigned(self, positions: frozenset[Position], generation: int) -> None:
        """Tells which partitions are ours from now on; nothing is consumed before it returns.

        Args:
            positions: all of them.
            generation: what their messages have as `generation_id`.
        """

    async def revoked(self) -> None:
        """Tells that no partition is ours any more, and that nothing is consumed now."""

    async def consume(self, records: StreamT[Record]) -> None:
        """Consumes the stream, as a Faust agent does.

        After an error Faust calls it again, and the record that caused it is left out.
        """


class App(faust.App):
    """Faust's application without producer, web server and folder; its agent hears of rebalances.

    Attributes:
        record_agent: who that is.
    """

    record_agent: RecordAgent
    logger = get_logger("faust.app")  # Faust takes the name of the module

    class BootStrategy(FaustBootStrategy):
        """What is started."""

        enable_kafka_producer = False
        enable_web = False

    async def on_first_start(self) -> None:
        """Does not make the folders for tables: there are none."""


def create_app(
    kafka: KafkaConfig,
    group: str,
    topics: Iterable[str],
    agent: RecordAgent,
    credentials: CredentialsT | None,
) -> App:
    """Returns an application that consumes record topics; it is not started.

    Args:
        kafka: the cluster.
        group: the consumer group.
        topics: physical names of the topics.
        agent: who counts.
        credentials: for the connection; None for a plain one.
    """
    app = App(
        group,
        broker=[f"kafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=credentials,
        broker_session_timeout=SESSION_TIMEOUT_MS / 1000,
        broker_heartbeat_interval=SESSION_TIMEOUT_MS / 3000,
        stream_buffer_maxsize=BUFFERED_RECORDS_COUNT,
        topic_allow_declare=False,
        topic_disable_leader=True,
    )
    app.record_agent = agent
    app.transport = _Transport(app.conf.broker_consumer, app)
    channel = app.topic(*topics, key_type=bytes, value_type=Record, acks=False)
    app.agent(channel, name="count")(agent.consume)
    return app


class _ConsumerThread(transport.ConsumerThread):
    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # The same partitions of every topic together: they share a transactional id.
        consumer._partition_assignment_strategy = [RangePartitionAssignor]  # noqa: SLF001 - as above
        return consumer

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> RecordMap:  # noqa: ASYNC109 - Faust's signature
        """Fetches messages; drops those that a rebalance has overtaken on their way here.

        Faust would take them for messages of the new assignment, which starts at other positions.
        """
        generation = self.app.consumer_generation_id
        records = await super().getmany(active_partitions, timeout)
        return records if generation == self.app.consumer_generation_id else {}


class _Consumer(transport.Consumer):
    app: App

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super().on_partitions_revoked(revoked)
        await self.app.record_agent.revoked()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        # Faust stops the flow when it loses partitions, so not before the first ones.
        self.stop_flow()
        # Before Faust looks for the positions: a predecessor's may still be on their way.
        await self.app.record_agent.assigned(frozenset(assigned), generation_id)
        await super().on_partitions_assigned(assigned, generation_id)


class _Transport(driver.Transport):
    Consumer: ClassVar[type[ConsumerT]] = _Consumer
