"""The import as a process: lines of an export → `identities`, and what the next lines need.

Each batch goes this way:

    1. lines are judged after everything before them (`intake.py`)
    2. the identities that changed are written to Kafka in one transaction
    3. the chains and the position are written to the local store in one batch

A crash between 2 and 3 has the batch judged and written again, with the same outcome: readers keep
the newest of an account, and the same twice is the same. All imports into one deployment have the
same transactional id: a second one ends the first.

Bounds of memory: a batch (`BATCH_LINES` and one chunk), two pages (`MAX_PAGE_BYTES` each), the
caches of keys, RocksDB's (`pipelines.rocks`) and librdkafka's (`PRODUCER_QUEUE_KBYTES`).
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError, FencedError
from pipelines.kafka.admin import check_partitions, topic_ids
from pipelines.kafka.beat import TOPIC as STATUS
from pipelines.kafka.beat import Report, State
from pipelines.kafka.heartbeat import heartbeat
from pipelines.kafka.locks import exclusive
from pipelines.kafka.loop import run_restarting
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.transaction import Transaction, TransactionalProducer
from pipelines.mirror.intake import Intake, Refusal, Tally
from pipelines.mirror.outputs import entry_of, identity_message
from pipelines.mirror.progress import Progress
from pipelines.mirror.source import Source
from pipelines.mirror.store import Meta, Store
from pipelines.rocks import StoreError, remove_store

STAGE: Final = "identity"
SLOT: Final = "import"
TOPIC: Final = "identities"

# A transaction costs some 50 ms; this many operations, some 600.
BATCH_LINES: Final = 4_000
# Refusals that get a line of their own: a hostile directory has no end of them.
LOGGED_REFUSALS: Final = 100
LOCK_TIMEOUT_S: Final = 1.0

_log = logs.get_logger(STAGE)


def run(
    kafka: KafkaConfig,
    source: Source,
    folder: Path,
    *,
    directory: str,
    stop: threading.Event,
    on_progress: Callable[[Progress], None],
) -> Tally:
    """Imports until the source has no more, or a stop.

    Args:
        kafka: the cluster.
        source: where the lines come from.
        folder: for the local store; made if missing.
        directory: base URL of the directory that the lines are from.
        stop: ends the import after the batch in hand.
        on_progress: told after each chunk.

    Returns:
        What became of the lines.

    Raises:
        ConfigError: topics are missing, the store is of another directory, or the source is none.
        BrokerUnavailableError: no broker answers at the start, or another import has the store.
        FencedError: another import has taken over.
    """
    partitions_count = check_partitions(kafka, [TOPIC, STATUS])[TOPIC]
    topic = kafka.topic(TOPIC)
    folder.mkdir(parents=True, exist_ok=True)
    purpose = f"imports into the store in {folder}"
    with exclusive(folder / "lock", purpose=purpose, timeout_s=LOCK_TIMEOUT_S):
        store = _open_store(folder / "chains", Meta(directory, topic_ids(kafka, [topic])[topic]))
        importer = Importer(kafka, source, store, partitions_count, stop, on_progress)
        with closing(store), heartbeat(kafka, STAGE, SLOT, importer.report):
            try:
                run_restarting(lambda: importer, importer.is_done)
            except FencedError as error:
                raise FencedError(
                    f"another import into {topic} has taken over; only one can run at a time: "
                    f"stop one of them ({error})"
                ) from None
    return importer.tally


class Importer:
    """An import with its store open. `run` may be called again after the producer was fenced.

    Attributes:
        tally: what became of the lines that are committed.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        source: Source,
        store: Store,
        partitions_count: int,
        stop: threading.Event,
        on_progress: Callable[[Progress], None],
    ) -> None:
        """Prepares it; the arguments are those of the function `run` and what it found out."""
        self.tally = Tally()
        self._kafka = kafka
        self._source = source
        self._store = store
        self._topic = kafka.topic(TOPIC)
        self._partitions_count = partitions_count
        self._stop = stop
        self._on_progress = on_progress
        self._has_ended = False
        self._state = State.STARTING
        self._outputs_count = 0
        self._logged_count = 0
        self._started_s = time.monotonic()
        self._start_share: float | None = None

    def is_done(self) -> bool:
        """Tells whether there is nothing more to do."""
        return self._has_ended or self._stop.is_set()

    def report(self) -> Report:
        """Returns what it has to say for its sign of life."""
        tally = self.tally
        return Report(
            state=self._state,
            counters={"inputs": tally.read_count, "outputs": self._outputs_count},
            groups={
                "operations": {
                    "accepted": tally.accepted_count,
                    "voided": tally.voided_count,
                    "repeated": tally.repeated_count,
                    "skipped": tally.skipped_count,
                },
                "operations_refused": {
                    str(reason): count for reason, count in tally.refused.items()
                },
            },
        )

    def run(self) -> None:
        """Imports from where the store stands until the source has no more, or a stop."""
        meta = self._store.meta
        assert meta is not None
        transactional_id = self._kafka.transactional_id(STAGE, SLOT)
        producer = TransactionalProducer(self._kafka, transactional_id, self._stop.is_set)
        producer.start()
        self._state = State.RUNNING
        intake = Intake(self._store.chain)
        position, written_us = meta.position, None
        with closing(self._source.chunks(position, self._stop)) as chunks:
            try:
                for chunk in chunks:
                    self._log_refusals(intake.add(chunk.lines))
                    position, written_us = chunk.position, chunk.written_us
                    if intake.tally.read_count >= BATCH_LINES or chunk.is_last:
                        self._commit(producer, intake, position, written_us)
                    self._tell(chunk.share)
            except ConfigError:
                self._commit(producer, intake, position, written_us)  # what came before is good
                raise
        self._has_ended = True

    def _commit(
        self,
        producer: TransactionalProducer,
        intake: Intake,
        position: str,
        written_us: int | None,
    ) -> None:
        meta = self._store.meta
        assert meta is not None
        batch = intake.take()
        if not batch.changes and position == meta.position:
            return
        learned_us = time.time_ns() // 1000
        if written_us is not None:
            learned_us = min(learned_us, written_us)
        entries = [
            entry_of(did, change, meta.directory, learned_us)
            for did, change in batch.changes.items()
        ]
        messages = [
            identity_message(entry, self._topic, self._partitions_count) for entry in entries
        ]
        if messages:
            producer.run(lambda transaction: _produce(transaction, messages))
        operations_count = meta.operations_count + batch.tally.accepted_count
        meta = replace(meta, position=position, operations_count=operations_count)
        self._store.write(batch.chains, meta)
        self.tally += batch.tally
        self._outputs_count += len(messages)

    def _log_refusals(self, refusals: Sequence[Refusal]) -> None:
        for did, error in refusals[: LOGGED_REFUSALS - self._logged_count]:
            _log.warning(
                "operation_refused", did=did, reason=str(error.reason), detail=error.detail
            )
            self._logged_count += 1

    def _tell(self, share: float | None) -> None:
        if self._start_share is None:
            self._start_share = share
        elapsed_s = time.monotonic() - self._started_s
        self._on_progress(Progress(self.tally.read_count, elapsed_s, self._start_share, share))


def _produce(transaction: Transaction, messages: Sequence[OutputMessage]) -> None:
    for message in messages:
        transaction.produce(message)


def _open_store(folder: Path, empty: Meta) -> Store:
    """Opens the store if it can be used, or makes an empty one in its place.

    Args:
        folder: where the store is.
        empty: what an empty one says.

    Raises:
        ConfigError: it is that of another directory.
    """
    problem = "it is new"
    try:
        store = Store(folder)
    except StoreError as error:
        problem = str(error)
    else:
        meta = store.meta
        if meta is not None and meta.directory != empty.directory:
            store.close()
            raise ConfigError(
                f"the store in {folder} has the operations of {meta.directory}, not of "
                f"{empty.directory}: name another one with --state-dir, or that --plc-url"
            )
        if meta is not None and meta.topic_id == empty.topic_id:
            return store
        if meta is not None:
            problem = "its identities went to a topic that is no more"
        store.close()
    _log.warning("store_begun", folder=str(folder), detail=problem)
    remove_store(folder)
    store = Store(folder)
    store.write({}, empty)
    return store
