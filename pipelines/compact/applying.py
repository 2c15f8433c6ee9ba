"""Applies snapshots in slices between two batches: chunks in, the difference out.

    check    the chunks are read once and compared with their manifest, before anything is changed
    merge    they are read again, chunk by chunk, against what is held (`merging.py`)
    replay   what came meanwhile is read again from `events` and judged (`repair.py`)

Each slice writes the state with its progress in the transaction of its records, so that whoever
gets the partition goes on there; the check begins anew if nothing was changed yet. Other
repositories' batches come in between.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from pipelines import logs
from pipelines.atproto.syntax import Did
from pipelines.compact.events import Event, parse_event
from pipelines.compact.held import HeldPartition
from pipelines.compact.merging import merge_slice
from pipelines.compact.repair import after_slice, lost, replay, snapshot_source
from pipelines.compact.state import Applying, RepoState
from pipelines.compact.writer import Change, Writer, change_of
from pipelines.errors import BrokerUnavailableError, TopicShortError
from pipelines.kafka.counts import Tally
from pipelines.kafka.loop import Background
from pipelines.kafka.messages import InputMessage, OutputMessage
from pipelines.repair.chunks import Chunk, ChunkRecord, parse_chunk
from pipelines.repair.manifests import Snapshot

# Operations of a slice, about a tenth of a second of work, so that live events are not held up.
SLICE_OPS_COUNT = 1_000
# Of chunks that one slice of the check reads; one chunk may pass it.
CHECK_SLICE_BYTES = 2 * 1024 * 1024
# Messages that wait, of up to 8 MiB each, in one slice; and how long reading them may take.
REPLAY_SLICE_COUNT = 8
REPLAY_READ_S = 0.3
# When to try again after the broker did not answer.
RETRY_MS = 1_000
# How long a topic may end before what it had once: a new leader knows within seconds how far it
# goes. After that the rest is lost, or the topic was deleted and made anew.
PATIENCE_MS = 60_000

_Read = TypeVar("_Read")

_log = logs.get_logger("compact")


class ChunkReader(Protocol):
    """Reads rows of messages, as `pipelines.kafka.rereading` does."""

    def next(self, partition: int, offset: int, end: int) -> InputMessage | None:
        """Returns the first message from an offset on and before `end`, or None if none is left.

        May raise `BrokerUnavailableError`, and `TopicShortError` where the topic ends before that.
        """

    def rest(self) -> None:
        """Tells that the row is done."""

    def close(self) -> None:
        """Ends reading."""


class EventReader(Protocol):
    """Reads messages again, as `pipelines.kafka.rereading` does."""

    def read(
        self, partition: int, offsets: Sequence[int], budget_s: float
    ) -> Mapping[int, InputMessage | None]:
        """Returns messages by their offsets, which rise, as far as there is time to read them.

        None stands for one that the topic no longer has. May raise `BrokerUnavailableError`, and
        `TopicShortError` where the topic ends before all of them.
        """

    def close(self) -> None:
        """Ends reading."""


class _DamagedError(Exception):
    """Chunks are gone, or not what their manifest says."""


@dataclass(slots=True)
class _Check:
    """The first look at the chunks of a snapshot, and how far it is."""

    did: Did
    snapshot_offset: int
    next_offset: int
    chunks_count: int = 0
    records_count: int = 0
    after_path: str = ""
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, message: InputMessage, snapshot: Snapshot) -> None:
        chunk = _chunk(message, snapshot, self.chunks_count)
        for record in chunk.records:
            if record.path <= self.after_path:
                raise _DamagedError(f"{record.path} comes after {self.after_path}")
            self.after_path = record.path
        self.next_offset = message.offset + 1
        self.chunks_count += 1
        self.records_count += len(chunk.records)
        self.digest.update(message.value or b"")

    def finish(self, snapshot: Snapshot) -> None:
        found = (self.chunks_count, self.records_count, self.digest.hexdigest())
        named = (snapshot.chunks_count, snapshot.records_count, snapshot.chunks_sha256)
        if found != named:
            raise _DamagedError(f"chunks, records and hash are {found}, the manifest has {named}")


class Applier:
    """The snapshots that a process applies, one at a time."""

    def __init__(
        self,
        writer: Writer,
        tally: Tally,
        chunks: ChunkReader,
        events: EventReader,
        clock_ms: Callable[[], int],
    ) -> None:
        """Wires the applier.

        Args:
            writer: takes changes over.
            tally: counts events by outcome.
            chunks: reads `chunks`; closed with this.
            events: reads `events`; closed with this.
            clock_ms: milliseconds since the epoch.
        """
        self._writer = writer
        self._tally = tally
        self._chunks = chunks
        self._events = events
        self._clock_ms = clock_ms
        self._check: _Check | None = None
        self._checked: tuple[Did, int] | None = None
        self._chunk: tuple[tuple[Did, int, int], int, Chunk] | None = None
        # By partition: when to try again, and since when a topic is shorter than it was.
        self._retry_at_ms: dict[int, int] = {}
        self._short_since_ms: dict[int, int] = {}

    def close(self) -> None:
        """Ends reading."""
        self._chunks.close()
        self._events.close()

    def forget(self) -> None:
        """Forgets everything, because partitions come and go."""
        self._rest()
        self._retry_at_ms.clear()
        self._short_since_ms.clear()

    def slice(self, partition: int, held: HeldPartition) -> Background | None:
        """Returns the next slice of a partition, or None if there is nothing to do now."""
        did = held.first_applying
        if did is None or self._clock_ms() < self._retry_at_ms.get(partition, 0):
            return None
        try:
            outputs = self._slice(partition, held, did)
        except BrokerUnavailableError as error:
            # What was read so far is kept, and what is on its way may come until then.
            _log.warning("waiting", detail=str(error))
            self._retry_at_ms[partition] = self._clock_ms() + RETRY_MS
            return None
        return Background(partition, outputs)

    def _rest(self) -> None:
        """Forgets what was read ahead."""
        self._check = self._checked = self._chunk = None
        self._chunks.rest()

    def _slice(self, partition: int, held: HeldPartition, did: Did) -> list[OutputMessage]:
        state = held.repo(did)
        assert state is not None
        applying = state.applying
        assert applying is not None
        if applying.is_merged:
            return self._replay(partition, held, state)
        try:
            is_begun = applying.next_chunk_index > 0 or applying.after_path is not None
            if not is_begun and self._checked != (did, applying.snapshot_offset):
                self._look(partition, did, applying)
                return []
            return self._merge(partition, held, state, applying)
        except _DamagedError as error:
            _log.warning(
                "snapshot_lost",
                did=did,
                partition=partition,
                snapshot_offset=applying.snapshot_offset,
                detail=str(error),
            )
            self._rest()
            return self._writer.write(held, partition, lost(state))

    def _look(self, partition: int, did: Did, applying: Applying) -> None:
        """Checks some more chunks before any of them is applied."""
        snapshot, offset = applying.snapshot, applying.snapshot_offset
        check = self._check
        if check is None or (check.did, check.snapshot_offset) != (did, offset):
            check = self._check = _Check(did, offset, snapshot.first_chunk_offset)
        size_bytes = 0
        while check.chunks_count < snapshot.chunks_count:
            if size_bytes >= CHECK_SLICE_BYTES:
                return
            message = self._next_chunk(partition, check.next_offset, snapshot)
            if message is None:
                break
            check.add(message, snapshot)
            size_bytes += len(message.value or b"")
        check.finish(snapshot)
        self._check = None
        self._checked = (did, offset)

    def _merge(
        self, partition: int, held: HeldPartition, state: RepoState, applying: Applying
    ) -> list[OutputMessage]:
        """Applies records of the next chunk."""
        did, snapshot, after_path = state.did, applying.snapshot, applying.after_path
        index, offset = applying.next_chunk_index, applying.next_chunk_offset
        records: tuple[ChunkRecord, ...] = ()
        if snapshot.chunks_count:
            offset, chunk = self._read(partition, applying)
            records = chunk.records
        wanted = [record for record in records if after_path is None or record.path > after_path]
        part = merge_slice(
            wanted,
            held.records(did, after_path),
            SLICE_OPS_COUNT,
            is_last=index + 1 >= snapshot.chunks_count,
        )
        if part.is_whole:
            offset, index = offset + 1, index + 1
        state = after_slice(state, offset, index, part.after_path or after_path)
        if state.applying is None or state.applying.is_merged:
            self._rest()
        change = Change(snapshot.rev, part.ops, snapshot_source(applying))
        return self._writer.write(held, partition, state, change)

    def _read(self, partition: int, applying: Applying) -> tuple[int, Chunk]:
        """Returns the next chunk of a snapshot and its offset; it may take several slices."""
        snapshot, offset = applying.snapshot, applying.next_chunk_offset
        wanted = (snapshot.did, applying.snapshot_offset, applying.next_chunk_index)
        if self._chunk is None or self._chunk[0] != wanted:
            message = self._next_chunk(partition, offset, snapshot)
            if message is None:
                raise _DamagedError(f"nothing is left from offset {offset} on")
            chunk = _chunk(message, snapshot, applying.next_chunk_index)
            self._chunk = (wanted, message.offset, chunk)
        return self._chunk[1], self._chunk[2]

    def _next_chunk(self, partition: int, offset: int, snapshot: Snapshot) -> InputMessage | None:
        """Returns the next message of a snapshot's row, or None if none is left."""
        return self._patiently(
            partition, lambda: self._chunks.next(partition, offset, snapshot.end_chunk_offset)
        )

    def _patiently(self, partition: int, read: Callable[[], _Read]) -> _Read | None:
        """Returns what is read from a topic; None if it has been too short for that too long."""
        try:
            found = read()
        except TopicShortError:
            now_ms = self._clock_ms()
            if now_ms - self._short_since_ms.setdefault(partition, now_ms) < PATIENCE_MS:
                raise
            return None
        self._short_since_ms.pop(partition, None)
        return found

    def _replay(
        self, partition: int, held: HeldPartition, state: RepoState
    ) -> list[OutputMessage]:
        """Judges the next messages that waited."""
        pointers = state.waiting[:REPLAY_SLICE_COUNT]
        offsets = [pointer.events_offset for pointer in pointers]
        messages = self._patiently(
            partition, lambda: self._events.read(partition, offsets, REPLAY_READ_S)
        )
        if messages is None:
            messages = dict.fromkeys(offsets)
        outputs: list[OutputMessage] = []
        for offset in offsets:
            # One that breaks the chain again ends it, and what there was no time for comes later.
            if state.applying is None or offset not in messages:
                break
            event = _event(messages[offset])
            reduction = replay(state, event)
            self._tally.add("events", reduction.outcome)
            assert reduction.state is not None
            state = reduction.state
            change = change_of(event, reduction.ops)
            outputs += self._writer.write(held, partition, state, change)
        return outputs


def _event(message: InputMessage | None) -> Event | None:
    return None if message is None else parse_event(message.value or b"")


def _chunk(message: InputMessage, snapshot: Snapshot, index: int) -> Chunk:
    """Returns the chunk in a message, if it is the wanted one of a snapshot."""
    try:
        chunk = parse_chunk(message.value or b"")
    except ValueError as error:
        raise _DamagedError(f"offset {message.offset} has no chunk: {error}") from None
    found = (chunk.did, chunk.rev, chunk.index)
    wanted = (snapshot.did, snapshot.rev, index)
    if found != wanted:
        raise _DamagedError(f"offset {message.offset} has {found} instead of {wanted}")
    return chunk
