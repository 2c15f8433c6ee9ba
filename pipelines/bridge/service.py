"""The bridge as a process: readers of one or several upstreams, and one publisher for all.

One bridge works for a pipeline (topic prefix); others stand by (`pipelines.bridge.leadership`).
Order at the start of its work: take over the transactional id, which ends whatever a predecessor
left open and fences it; read the cursors, and with several upstreams the events of late; connect.

Bounds of memory: the queue between readers and publisher (`HANDOVER_BYTES`), the batch being
published (`BATCH_BYTES`), librdkafka's queue (`PRODUCER_QUEUE_KBYTES`), one message of each socket
(`MAX_MESSAGE_BYTES`), and with several upstreams the window (`WINDOW_COUNT`).
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence

from pipelines import logs
from pipelines.bridge.backoff import Backoff
from pipelines.bridge.cursor import Start, load_cursors, load_window, start_of
from pipelines.bridge.handover import Handover
from pipelines.bridge.intake import Intake
from pipelines.bridge.leadership import Leadership
from pipelines.bridge.messages import STAGE, Outputs, StoredCursor
from pipelines.bridge.progress import Published, Received, report_of, summary, upstream_summary
from pipelines.bridge.publisher import Deadline, Publisher
from pipelines.bridge.reader import Reader
from pipelines.bridge.upstream import Origin
from pipelines.bridge.window import Window
from pipelines.config import KafkaConfig
from pipelines.errors import (
    BrokerUnavailableError,
    ConfigError,
    FencedError,
    UpstreamUnavailableError,
)
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.beat import TOPIC as STATUS
from pipelines.kafka.beat import Report
from pipelines.kafka.heartbeat import heartbeat
from pipelines.kafka.loop import run_restarting
from pipelines.kafka.reading import log_ends
from pipelines.kafka.transaction import TransactionalProducer
from pipelines.relay import host_of

STOP_POLL_S = 0.1
SUMMARY_INTERVAL_S = 10.0
# All bridges of a pipeline write as one: whoever works fences the one before.
_WRITER = "leader"

_log = logs.get_logger(STAGE)


def run(
    kafka: KafkaConfig,
    relays: Sequence[str],
    start: Start,
    should_stop: Callable[[], bool],
    slot: str = "0",
    servers: Sequence[str] = (),
) -> None:
    """Runs a bridge until it is asked to stop.

    Args:
        kafka: the cluster.
        relays: addresses of relays, as `pipelines.relay.subscribe_url` takes them.
        start: where to start with those of which no cursor is stored.
        should_stop: asked several times a second.
        slot: stable name of this process among the bridges of the pipeline.
        servers: addresses of servers of accounts (PDS), each of which speaks for its own alone.

    Raises:
        ConfigError: there is no address, an address is none, two are of one upstream, several
            shall start at one sequence number, topics are missing or not co-partitioned.
        BrokerUnavailableError: no broker answers at the start, or at the end.
        UpstreamUnavailableError: there is no event stream at any address, and never was. While
            there is one, the others are tried again, slowly.
        FencedError: another bridge has our slot.
    """
    upstreams = _by_host([*relays, *servers])
    if not upstreams:
        raise ConfigError("say whom to read: --relay URL, or --pds URL")
    server_hosts = frozenset(map(host_of, servers))
    if len(upstreams) > 1 and isinstance(start.first, int) and start.first > 0:
        raise ConfigError(
            f"each upstream has sequence numbers of its own, so {start.first} cannot be the start "
            "of several: use --cursor live, oldest or a time"
        )
    counts = check_partitions(kafka, ["frames", "quarantine", "cursors", "epochs", "gaps", STATUS])
    outputs = Outputs(
        frames=kafka.topic("frames"),
        quarantine=kafka.topic("quarantine"),
        cursors=kafka.topic("cursors"),
        epochs=kafka.topic("epochs"),
        gaps=kafka.topic("gaps"),
        frames_partitions=counts["frames"],
        quarantine_partitions=counts["quarantine"],
    )
    received = {host: Received() for host in upstreams}
    published = Published()
    with Leadership(kafka, slot) as leadership:

        def create() -> Bridge:
            return Bridge(
                kafka,
                upstreams,
                server_hosts,
                outputs,
                start,
                should_stop,
                leadership,
                received,
                published,
            )

        def report() -> Report:
            return report_of(received, published, is_leading=leadership.is_held)

        with heartbeat(kafka, STAGE, slot, report):
            run_restarting(create, should_stop)


def _by_host(relays: Sequence[str]) -> dict[str, str]:
    """Returns the addresses by the names of their hosts."""
    upstreams: dict[str, str] = {}
    for relay in relays:
        host = host_of(relay)
        if host in upstreams:
            raise ConfigError(f"two addresses are of the same upstream ({host}): leave one out")
        upstreams[host] = relay
    return upstreams


class Bridge:
    """One life of a bridge, from waiting for its turn to giving up the transactional id."""

    def __init__(
        self,
        kafka: KafkaConfig,
        upstreams: Mapping[str, str],
        server_hosts: frozenset[str],
        outputs: Outputs,
        start: Start,
        should_stop: Callable[[], bool],
        leadership: Leadership,
        received: Mapping[str, Received],
        published: Published,
    ) -> None:
        """Prepares it; `run` connects. The arguments are those of `run` and what it found out."""
        self._kafka = kafka
        self._upstreams = upstreams
        self._server_hosts = server_hosts
        self._outputs = outputs
        self._start = start
        self._should_stop = should_stop
        self._leadership = leadership
        self._received = received
        self._published = published

    def run(self) -> None:
        """Waits until it is the leader, and works until `should_stop` or until it no longer is.

        What was received is published before a stop ends. Who has lost the leadership drops it:
        the cursor does not cover it, and the new leader fetches it again.
        """
        if not self._leadership.wait(self._should_stop):
            return
        try:
            self._lead()
        except (BrokerUnavailableError, FencedError) as error:
            # Fenced by its successor, or cut off from a broker that has given us up.
            if self._should_stop() or self._leadership.is_confirmed():
                raise
            _log.warning("leadership_ended", detail=str(error))

    def _lead(self) -> None:
        deadline = Deadline()
        transactional_id = self._kafka.transactional_id(STAGE, _WRITER)
        producer = TransactionalProducer(self._kafka, transactional_id, deadline.has_passed)
        producer.start()
        stored = load_cursors(self._kafka, self._upstreams.keys())
        partitions_count = self._outputs.frames_partitions
        window = load_window(self._kafka, partitions_count) if len(self._upstreams) > 1 else None
        frames = [(self._outputs.frames, number) for number in range(partitions_count)]
        handover = Handover()
        publisher = Publisher(
            producer,
            deadline,
            handover,
            self._outputs,
            next_offsets={
                number: end for (_, number), end in log_ends(self._kafka, frames).items()
            },
            clock_us=_now_us,
            published=self._published,
        )
        readers = [
            self._reader(host, stored.get(host), window, handover) for host in self._received
        ]

        def report(event: str) -> None:
            self._look_at(handover)
            _log.info(event, **summary(self._received, self._published))
            for host in self._received:
                progress = upstream_summary(
                    host, self._received, self._published, now_us=_now_us()
                )
                _log.info(f"{event}_upstream", host=host, **progress)

        publisher.start()
        try:
            asyncio.run(self._read(readers, publisher, handover, report))
        finally:
            try:
                publisher.stop(drains=self._leadership.is_held)
            finally:
                report("stopped")

    def _reader(
        self, host: str, stored: StoredCursor | None, window: Window | None, handover: Handover
    ) -> Reader:
        begin = start_of(stored, self._start)
        is_pds = host in self._server_hosts
        _log.info("start", host=host, is_pds=is_pds, **begin.fields)
        return Reader(
            self._upstreams[host],
            Origin(host, begin.generation, is_pds),
            Intake(begin.cursor, begin.continuity, window, host, is_pds=is_pds),
            handover,
            Backoff(random.random),
            is_proven=begin.is_proven,
            clock_us=_now_us,
            received=self._received[host],
            start_us=begin.start_us,
            last_time=begin.last_time,
        )

    def _check_addresses(self) -> None:
        """Ends the bridge if it was started with nothing but wrong addresses."""
        if all(one.misaddressed_us is not None for one in self._received.values()):
            raise UpstreamUnavailableError(
                "; ".join(
                    f"{self._upstreams[host]}: {one.disconnected_by}"
                    for host, one in self._received.items()
                )
            )

    def _look_at(self, handover: Handover) -> None:
        self._published.queued_count = handover.entries_count
        self._published.queued_bytes = handover.size_bytes

    async def _read(
        self,
        readers: Sequence[Reader],
        publisher: Publisher,
        handover: Handover,
        report: Callable[[str], None],
    ) -> None:
        """Reads until a stop is asked for, we no longer lead, or something has failed."""
        reading = [asyncio.create_task(reader.run()) for reader in readers]
        next_report_s = time.monotonic() + SUMMARY_INTERVAL_S
        try:
            while not self._should_stop() and publisher.is_running and self._leadership.poll():
                done, _ = await asyncio.wait(
                    reading, timeout=STOP_POLL_S, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    break
                self._look_at(handover)
                for reader in readers:
                    reader.examine()
                self._check_addresses()
                if time.monotonic() >= next_report_s:
                    next_report_s += SUMMARY_INTERVAL_S
                    report("progress")
        finally:
            for task in reading:
                task.cancel()
            outcomes = await asyncio.gather(*reading, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome


def _now_us() -> int:
    return time.time_ns() // 1000
