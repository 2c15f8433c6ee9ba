"""The frames of an upstream from Kafka, in its own order, epoch by epoch.

A reader joins no group and moves no position. It sees committed messages alone: of what was given
up, and of the marks between transactions, nothing comes, and an epoch is there only with all of
its frames. Limits of memory, for each reader:

    frames of partitions that run ahead   AHEAD_BYTES, and one read   they are paused
    frames before their turn              replay.epochs.HELD_BYTES    it ends with an error
    librdkafka's queue                    CONSUMER_QUEUE_KBYTES       it stops fetching
    one read                              READ_BYTES, and one epoch   the rest comes next time
"""

import threading
from collections.abc import Iterator
from typing import Final

from pipelines.config import KafkaConfig
from pipelines.kafka.messages import InputMessage
from pipelines.replay.ahead import Ahead, StoppedError
from pipelines.replay.selection import seq_of
from pipelines.replay.sources import HostOrder
from pipelines.replay.window import Range
from pipelines.serving.frames_planning import Served
from pipelines.serving.ring import Batch, Place

# Where it is reached, librdkafka fetches again what it had: a quarter is less than half as fast.
AHEAD_BYTES: Final = 32 * 1024 * 1024
READ_BYTES: Final = 1024 * 1024
# Epochs of others, or without a wanted frame, until a read ends all the same.
_READ_EPOCHS: Final = 1_000


class Reader:
    """Reads on from a place. `read` is for one thread at a time, `stop` and `close` for any."""

    def __init__(self, kafka: KafkaConfig, served: Served, place: Place) -> None:
        """Begins to read.

        Args:
            kafka: the cluster.
            served: what is read.
            place: where it begins.
        """
        self._is_stopped = False
        self._lock = threading.Lock()
        self._ahead = Ahead(kafka, place, lambda: self._is_stopped, max_bytes=AHEAD_BYTES)
        self._epochs = served.epochs
        # Frames are read as far as the epochs go.
        ranges = {where: Range(start, start) for where, start in place.items()}
        ranges[served.epochs] = Range(place[served.epochs], max(served.end, place[served.epochs]))
        self._source = HostOrder(self._ahead, served.epochs, ranges, served.selection, served.host)
        self._messages: Iterator[InputMessage | None] = iter(self._source)
        self._frames: list[tuple[int, bytes]] = []
        self._end = place[served.epochs]

    def read(self) -> list[Batch]:
        """Returns what comes next; waits a moment for it.

        Returns:
            A batch for each epoch with frames, and at most one without any, the last, which tells
            how far it is. None at all where nothing came.

        Raises:
            BrokerUnavailableError: the broker does not answer; begin anew from the last place.
            EpochsError: the frames' order cannot be told.
            OffsetLostError: messages were deleted before they could be read.
        """
        with self._lock:
            try:
                return self._read()
            except StoppedError:
                return []

    def stop(self) -> None:
        """Lets a `read` that is under way end soon."""
        self._is_stopped = True

    def close(self) -> None:
        """Ends reading, once a `read` that is under way has ended."""
        self.stop()
        with self._lock:
            self._ahead.close()

    def _read(self) -> list[Batch]:
        if self._is_stopped:
            return []
        batches: list[Batch] = []
        size_bytes = epochs_count = 0
        end = self._end
        for message in self._messages:
            if message is not None:
                seq = seq_of(message)
                assert seq is not None  # every frame of a host has one
                self._frames.append((seq, message.value or b""))
                continue
            if self._source.next_offsets[self._epochs] == end:
                break  # nothing has come for a while
            end = self._source.next_offsets[self._epochs]
            epochs_count += 1
            # It can be gone on with only where nothing is held.
            if self._source.is_whole and self._frames:
                batches.append(self._cut())
                size_bytes += batches[-1].size_bytes
            if size_bytes >= READ_BYTES or epochs_count >= _READ_EPOCHS:
                break
        if self._source.is_whole and self._source.next_offsets[self._epochs] > self._end:
            batches.append(self._cut())
        return batches

    def _cut(self) -> Batch:
        place = dict(self._source.next_offsets)
        self._end = place[self._epochs]
        frames, self._frames = self._frames, []
        return Batch(self._end, place, frames)
