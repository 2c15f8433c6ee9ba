"""Analytics as a process: a Faust application that counts, and a publisher that commits.

    record topics ─► Faust ─► MinuteCounter, TrendFollower
                                    └─► every PUBLISH_INTERVAL_S: Publisher ─► minutes, trends

A life of the process begins with nothing but the committed positions and ends with the first
error. The next one continues there, so an error costs what was counted since the last commit, and
that is counted again. While the broker is away, lives begin in vain until it is back.

Bounds of memory: those of `counting` and `trending`, `app.BUFFERED_RECORDS_COUNT`,
and what aiokafka fetches ahead, 1 MiB for each partition of each topic.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiokafka.errors import KafkaError
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from faust.types.auth import CredentialsT
from faust.types.streams import StreamT

from pipelines import logs
from pipelines.analytics.app import App, create_app
from pipelines.analytics.counting import MinuteCounter, MinuteSummary
from pipelines.analytics.minutes import TOPIC as MINUTES
from pipelines.analytics.publisher import Publisher
from pipelines.analytics.records import Record
from pipelines.analytics.security import credentials_of
from pipelines.analytics.trending import HourSummary, TrendFollower
from pipelines.analytics.trends import TOPIC as TRENDS
from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.admission import TOPIC as TABLES
from pipelines.kafka.admitting import join
from pipelines.kafka.beat import TOPIC as STATUS
from pipelines.kafka.beat import State
from pipelines.kafka.counts import LoopCounts
from pipelines.kafka.heartbeat import heartbeat
from pipelines.kafka.loop import SUMMARY_INTERVAL_S, run_restarting
from pipelines.kafka.messages import Position

STAGE: Final = "analytics"
# A count is at most so much older than its records. A transaction takes some 20 ms.
PUBLISH_INTERVAL_S: Final = 1.0
STOP_POLL_S: Final = 0.1
# Faust waits for ever for a broker that is away.
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
RETRY_S: Final = 2.0
# What Faust and what it stands on have to say that is more than chatter.
_FOREIGN_LOGGERS: Final = ("faust", "mode", "aiokafka")

_log = logs.get_logger(STAGE)


def run(kafka: KafkaConfig, *, slot: str, should_stop: Callable[[], bool]) -> None:
    """Counts until it is asked to stop; then commits what is counted and leaves the group.

    Args:
        kafka: the cluster.
        slot: stable name of this process among its kind, for the status.
        should_stop: asked several times a second.

    Raises:
        BrokerUnavailableError: no broker answers at the start, or at the end.
        ConfigError: topics are missing or not co-partitioned, settings cannot be followed, or the
            deployment has another table of admitted collections.
        FencedError: twice within a minute another process took over our partitions.
        RefusedByBrokerError: the broker will never take a message.
    """
    logs.adopt(*_FOREIGN_LOGGERS)
    check_partitions(kafka, [MINUTES, TRENDS, STATUS, TABLES])
    known, _ = join(kafka)
    records = known.specs["records"]
    check_partitions(kafka, [*records.topics, MINUTES, TRENDS, STATUS], known)
    collections = {
        kafka.topic(topic): topic.removeprefix(f"{records.name}.") for topic in records.topics
    }
    counts = LoopCounts()
    latest = Latest()

    def create() -> Counting:
        return Counting(kafka, collections, counts, latest, should_stop)

    with heartbeat(kafka, STAGE, slot, lambda: counts.report(latest.groups)):
        run_restarting(create, should_stop)


@dataclass(slots=True)
class Latest:
    """The latest numbers, for the status.

    Attributes:
        groups: by name of the group and of its member; replaced and never changed.
    """

    groups: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def show(self, minute: MinuteSummary | None, hour: HourSummary | None) -> None:
        """Takes over the numbers of a minute and an hour, where there are any."""
        if minute is not None and hour is not None:
            self.groups = {
                "last_minute": minute.collections,
                "last_minute_languages": minute.languages,
                "this_hour": {"accounts": hour.accounts_count, "records": hour.records_count},
            }


class Counting:
    """Lives of the application until a stop is asked for, or an error that time does not heal."""

    def __init__(
        self,
        kafka: KafkaConfig,
        collections: Mapping[str, str],
        counts: LoopCounts,
        latest: Latest,
        should_stop: Callable[[], bool],
    ) -> None:
        """Prepares it; `run` connects.

        Args:
            kafka: the cluster.
            collections: name under which its records are counted, by physical topic.
            counts: what was done, to be kept up to date.
            latest: the latest numbers, to be kept up to date.
            should_stop: asked several times a second.
        """
        self._kafka = kafka
        self._collections = collections
        self._counts = counts
        self._latest = latest
        self._should_stop = should_stop

    def run(self) -> None:
        """Runs lives, one after the other, while the broker is away."""
        credentials = credentials_of(self._kafka.options)
        while True:
            life = _Life(self._kafka, self._collections, credentials, self._counts, self._latest)
            try:
                asyncio.run(life.live(self._should_stop))
            except BrokerUnavailableError as error:
                if self._should_stop():
                    raise
                self._counts.waits_count += 1
                self._counts.waits_for = str(error)
                _log.warning("broker_away", detail=str(error))
                time.sleep(RETRY_S)
            else:
                return


class _Life:
    """From joining the group to leaving it. Not for use by several threads."""

    def __init__(
        self,
        kafka: KafkaConfig,
        collections: Mapping[str, str],
        credentials: CredentialsT | None,
        counts: LoopCounts,
        latest: Latest,
    ) -> None:
        self._kafka = kafka
        self._collections = collections
        self._credentials = credentials
        self._counts = counts
        self._latest = latest
        self._counter = MinuteCounter(collections)
        self._follower = TrendFollower()
        self._publisher = Publisher(kafka, STAGE, credentials_to_aiokafka_auth(credentials))
        self._generation = 0
        self._failure: BaseException | None = None

    async def live(self, should_stop: Callable[[], bool]) -> None:
        """Runs until a stop is asked for, or raises what went wrong."""
        self._publishing = asyncio.Lock()
        group = self._kafka.group(STAGE)
        app = create_app(self._kafka, group, self._collections, self, self._credentials)
        try:
            await self._start(app)
            next_publish_s = next_summary_s = time.monotonic()
            while not should_stop():
                await asyncio.sleep(STOP_POLL_S)
                self._raise_failure(app)
                now_s = time.monotonic()
                if now_s >= next_publish_s:
                    next_publish_s = now_s + PUBLISH_INTERVAL_S
                    await self._publish()
                if now_s >= next_summary_s:
                    next_summary_s = now_s + SUMMARY_INTERVAL_S
                    self._summarise("progress")
            await self._publish()
        finally:
            await self._stop(app)
            self._summarise("stopped")

    # ---- what Faust tells ----------------------------------------------------------------

    async def assigned(self, positions: frozenset[Position], generation: int) -> None:
        """Takes over partitions; a failure ends this life, since Faust would go on."""
        self._counts.state = State.RESTORING
        partitions = {partition for _, partition in positions}
        try:
            async with self._publishing:
                await self._publisher.take_over(partitions)
                self._counter.assign(positions)
                self._follower.assign(partitions)
                self._generation = generation
        except Exception as error:  # noqa: BLE001 - raised again in `live`
            self._failure = error
            return
        self._counts.partitions_count = len(partitions)
        self._counts.state = State.RUNNING
        self._counts.waits_for = None
        _log.info("assigned", partitions=sorted(partitions))

    async def revoked(self) -> None:
        """Waits for the commit in hand, and forgets what is not committed."""
        async with self._publishing:
            self._counter.assign(())
            self._follower.assign(())
        self._counts.partitions_count = 0

    async def consume(self, records: StreamT[Record]) -> None:
        """Counts the stream; an error ends this life, since Faust would go on without the record.

        It publishes when the counter is full, which holds Faust back.
        """
        try:
            async for event in records.events():
                message = event.message
                # What a rebalance found in Faust's queues belongs to somebody else now.
                if message.generation_id == self._generation:
                    self._count(message.tp, message.offset, event.value)
                    if self._counter.is_full:
                        await self._publish()
        except Exception as error:
            self._failure = error
            raise

    # ---- what is done about it -----------------------------------------------------------

    def _count(self, where: Position, offset: int, record: Record) -> None:
        if self._counter.count(where, offset, record):
            topic, partition = where
            self._follower.follow(self._collections[topic], partition, offset, record)

    async def _publish(self) -> None:
        """Commits what changed; nothing any more once something failed."""
        async with self._publishing:
            if self._failure is not None:
                return
            self._latest.show(self._counter.last_minute(), self._follower.newest_hour())
            changes = self._counter.take_changes()
            for partition, trends in self._follower.take_changes().items():
                changes[partition].trends += trends
            try:
                await self._publisher.publish(changes)
            except BaseException as error:
                # What was taken is not committed: the counter must not go on.
                self._failure = error
                raise
            for each in changes.values():
                self._counts.inputs_count += each.records_count
                self._counts.outputs_count += len(each.counts) + len(each.trends)
                self._counts.transactions_count += 1

    async def _start(self, app: App) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await app.start()
        except (TimeoutError, KafkaError) as error:
            raise BrokerUnavailableError(
                f"Faust cannot connect to {self._kafka.bootstrap_servers} ({error!r}); is the "
                "broker up? `standpipe kafka status` tells"
            ) from None

    async def _stop(self, app: App) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await app.stop()
        await self._publisher.close()

    def _raise_failure(self, app: App) -> None:
        if self._failure is not None:
            raise self._failure
        if app.crashed:
            raise app.crash_reason or RuntimeError("Faust crashed and does not say why")

    def _summarise(self, event: str) -> None:
        newest_us = self._counter.newest_us
        delay_us = None if newest_us is None else time.time_ns() // 1000 - newest_us
        _log.info(
            event,
            records=self._counts.inputs_count,
            counts=self._counts.outputs_count,
            transactions=self._counts.transactions_count,
            partitions=self._counts.partitions_count,
            delay_s=None if delay_us is None else round(delay_us / 1e6, 1),
        )
