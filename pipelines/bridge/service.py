"""The bridge as a process: one upstream, one reader, one publisher.

Order at the start: take over the transactional id, which ends whatever a predecessor left open;
read the cursor; connect. One bridge runs for an upstream (and topic prefix): a second one takes
over, and the first one ends.

Bounds of memory: the queue between reader and publisher (`HANDOVER_BYTES`), the batch being
published (`BATCH_BYTES`), librdkafka's queue (`PRODUCER_QUEUE_KBYTES`), and one message of the
socket (`MAX_MESSAGE_BYTES`).
"""

import asyncio
import random
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from pipelines import logs
from pipelines.bridge.backoff import Backoff
from pipelines.bridge.cursor import load_cursor
from pipelines.bridge.handover import Handover
from pipelines.bridge.intake import Intake
from pipelines.bridge.messages import STAGE, Origin, Outputs, StoredCursor
from pipelines.bridge.progress import Published, Received, report_of, summary
from pipelines.bridge.publisher import Deadline, Publisher
from pipelines.bridge.reader import Reader
from pipelines.config import KafkaConfig
from pipelines.errors import FencedError
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.beat import TOPIC as STATUS
from pipelines.kafka.heartbeat import heartbeat
from pipelines.kafka.loop import run_restarting
from pipelines.kafka.reading import log_ends
from pipelines.kafka.transaction import TransactionalProducer
from pipelines.relay import subscribe_url

STOP_POLL_S = 0.1
SUMMARY_INTERVAL_S = 10.0

_DEFAULT_PORTS = {"wss": ":443", "ws": ":80"}

_log = logs.get_logger(STAGE)


def run(
    kafka: KafkaConfig, relay: str, first_cursor: int | None, should_stop: Callable[[], bool]
) -> None:
    """Runs the bridge of one upstream until it is asked to stop.

    Args:
        kafka: the cluster.
        relay: address of the upstream, as `pipelines.relay.subscribe_url` takes it.
        first_cursor: where to start if no cursor is stored for the host: a sequence number to
            continue after, 0 for the oldest event there is, None for new events only.
        should_stop: asked several times a second.

    Raises:
        ConfigError: the address is none, topics are missing or not co-partitioned.
        BrokerUnavailableError: no broker answers at the start, or at the end.
        UpstreamUnavailableError: there is no event stream at the address.
        FencedError: another bridge runs for this upstream.
    """
    host = host_of(relay)
    counts = check_partitions(kafka, ["frames", "quarantine", "cursors", "epochs", STATUS])
    outputs = Outputs(
        frames=kafka.topic("frames"),
        quarantine=kafka.topic("quarantine"),
        cursors=kafka.topic("cursors"),
        epochs=kafka.topic("epochs"),
        frames_partitions=counts["frames"],
        quarantine_partitions=counts["quarantine"],
    )

    received, published = Received(), Published()

    def create() -> Bridge:
        return Bridge(kafka, relay, host, outputs, first_cursor, should_stop, received, published)

    with heartbeat(kafka, STAGE, slot_of(relay), lambda: report_of(received, published)):
        try:
            run_restarting(create, should_stop)
        except FencedError as error:
            raise FencedError(
                f"another bridge for {host} has taken over (topic prefix {kafka.topic_prefix}); "
                f"only one can run for an upstream: stop one of them ({error})"
            ) from None


def host_of(relay: str) -> str:
    """Returns the name under which an upstream is known in all topics.

    Args:
        relay: address of the upstream, as `pipelines.relay.subscribe_url` takes it.

    Returns:
        `host`, or `host:port` where the port is not that of the scheme; lower case.

    Raises:
        ConfigError: it is no such address.
    """
    parts = urlsplit(subscribe_url(relay))
    return parts.netloc.removesuffix(_DEFAULT_PORTS[parts.scheme])


def slot_of(relay: str) -> str:
    """Returns the name of an upstream's bridge among all bridges.

    Args:
        relay: address of the upstream, as `pipelines.relay.subscribe_url` takes it.

    Raises:
        ConfigError: it is no such address.
    """
    # A colon would need quoting in the names of Kafka's metrics; '~' is in no host name.
    return host_of(relay).replace(":", "~")


class Bridge:
    """One life of a bridge, from taking over the transactional id to giving it up."""

    def __init__(
        self,
        kafka: KafkaConfig,
        relay: str,
        host: str,
        outputs: Outputs,
        first_cursor: int | None,
        should_stop: Callable[[], bool],
        received: Received,
        published: Published,
    ) -> None:
        """Prepares it; `run` connects. The arguments are those of `run` and what it found out."""
        self._kafka = kafka
        self._relay = relay
        self._host = host
        self._outputs = outputs
        self._first_cursor = first_cursor
        self._should_stop = should_stop
        self._received = received
        self._published = published

    def run(self) -> None:
        """Runs until `should_stop`; then publishes what was received."""
        deadline = Deadline()
        transactional_id = self._kafka.transactional_id(STAGE, slot_of(self._relay))
        producer = TransactionalProducer(self._kafka, transactional_id, deadline.has_passed)
        producer.start()
        stored = load_cursor(self._kafka, self._host)
        frames = self._outputs.frames
        partitions = range(self._outputs.frames_partitions)
        ends = log_ends(self._kafka, [(frames, partition) for partition in partitions])
        self._log_start(stored)
        handover = Handover()
        publisher = Publisher(
            producer,
            deadline,
            handover,
            Origin(self._host, generation=1 if stored is None else stored.generation + 1),
            self._outputs,
            next_offsets={partition: end for (_, partition), end in ends.items()},
            clock_us=_now_us,
            published=self._published,
        )
        reader = Reader(
            self._relay,
            self._host,
            Intake(self._first_cursor if stored is None else stored.seq),
            handover,
            Backoff(random.random),
            is_proven=stored is not None,
            clock_us=_now_us,
            received=self._received,
        )

        def report(event: str) -> None:
            fields = summary(
                self._received,
                self._published,
                queued_count=handover.entries_count,
                now_us=_now_us(),
            )
            _log.info(event, host=self._host, **fields)

        publisher.start()
        try:
            asyncio.run(self._read(reader, publisher, report))
        finally:
            try:
                publisher.stop()
            finally:
                report("stopped")

    async def _read(
        self, reader: Reader, publisher: Publisher, report: Callable[[str], None]
    ) -> None:
        """Reads until a stop is asked for, or the reader or the publisher has failed."""
        reading = asyncio.create_task(reader.run())
        next_report_s = time.monotonic() + SUMMARY_INTERVAL_S
        try:
            while not self._should_stop() and publisher.is_running and not reading.done():
                await asyncio.wait((reading,), timeout=STOP_POLL_S)
                if time.monotonic() >= next_report_s:
                    next_report_s += SUMMARY_INTERVAL_S
                    report("progress")
        finally:
            reading.cancel()
            (outcome,) = await asyncio.gather(reading, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome

    def _log_start(self, stored: StoredCursor | None) -> None:
        if stored is None:
            _log.info("no_cursor_stored", host=self._host, start=self._first_cursor)
        else:
            _log.info(
                "cursor_found", host=self._host, cursor=stored.seq, generation=stored.generation
            )


def _now_us() -> int:
    return time.time_ns() // 1000
