"""Local copies of topics: when one may still be used, and what it lacks.

A stage with state keeps what it needs of compacted topics in a store on this machine
(`pipelines.rocks`). The topics are the truth and the store a copy, which says how far it has come.
It is used as far as it goes if it was made of these very topics and is younger than their
tombstones' life; otherwise tombstones that it has not seen may be gone, and it is made anew. So is
one that is missing or cannot be read.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.reading import read_between
from pipelines.rocks import StoreError, remove_store

# One write to a store, and how often the caller hears of us.
BATCH_MESSAGES = 5_000
PROGRESS_INTERVAL_S = 5.0
# Of the tombstones' life, so that a store in use does not come close to it.
_USABLE_SHARE = 0.5


@dataclass(slots=True)
class CopyMeta:
    """What a copy says of itself.

    Attributes:
        topic_ids: the topics it was made of, by name: topics that were deleted and made anew have
            other ids.
        next_offsets: by topic, the offset after the last message that it reflects.
        written_ms: when it was last known to reflect them, milliseconds since the epoch.
    """

    topic_ids: dict[str, str]
    next_offsets: dict[str, int] = field(default_factory=dict)
    written_ms: int = 0


class Copy(Protocol):
    """A store with a copy in it."""

    @property
    def meta(self) -> CopyMeta | None:
        """What it says of itself; None for a store without any content."""

    def close(self) -> None:
        """Closes the store."""


C = TypeVar("C", bound=Copy)


class Original:
    """The topics that a stage's copies are made of."""

    def __init__(
        self,
        kafka: KafkaConfig,
        stage: str,
        topic_ids: Mapping[str, str],
        tombstone_life_ms: int,
        clock_ms: Callable[[], int],
    ) -> None:
        """Takes what tells these topics from others.

        Args:
            kafka: the cluster.
            stage: whose logger tells of restores.
            topic_ids: the cluster's ids of the topics, by physical name.
            tombstone_life_ms: `delete.retention.ms` of the topics.
            clock_ms: milliseconds since the epoch.
        """
        self.topic_ids = dict(topic_ids)
        self.clock_ms = clock_ms
        self._kafka = kafka
        self._log = logs.get_logger(stage)
        self._usable_ms = int(tombstone_life_ms * _USABLE_SHARE)

    def open(
        self, folder: Path, ends: Mapping[str, int], open_store: Callable[[Path], C]
    ) -> C | None:
        """Opens a copy if it can be used.

        Args:
            folder: where it is.
            ends: by topic, the offset after the last message in its partition.
            open_store: opens what is in the folder; may raise `StoreError`.

        Returns:
            The copy; None if a new one has to be made: then nothing is left in the folder.
        """
        try:
            store = open_store(folder)
        except StoreError as error:
            self._log.warning("store_rebuilt", folder=str(folder), detail=str(error))
        else:
            problem = self._problem(store.meta, ends)
            if problem is None:
                return store
            if store.meta is not None:
                self._log.warning("store_rebuilt", folder=str(folder), detail=problem)
            store.close()
        remove_store(folder)
        return None

    def missing(
        self, meta: CopyMeta, partition: int, ends: Mapping[str, int]
    ) -> Iterator[list[InputMessage]]:
        """Yields what a copy lacks, in batches; the last one may be empty.

        The caller has waited until everything up to the ends is readable.

        Args:
            meta: says how far the copy has come.
            partition: its partition in every topic.
            ends: by topic, the offset after the last message wanted.
        """
        starts = {(topic, partition): meta.next_offsets.get(topic, 0) for topic in ends}
        targets = {(topic, partition): end for topic, end in ends.items()}
        total = sum(max(0, targets[where] - start) for where, start in starts.items())
        started_s = reported_s = time.monotonic()
        done = 0
        batch: list[InputMessage] = []
        for message in read_between(self._kafka, starts, targets):
            batch.append(message)
            if len(batch) >= BATCH_MESSAGES:
                done += len(batch)
                yield batch
                batch = []
                if time.monotonic() - reported_s > PROGRESS_INTERVAL_S:
                    reported_s = time.monotonic()
                    rate = done / (reported_s - started_s)
                    self._log.info(
                        "restoring", partition=partition, done=done, total=total, per_s=int(rate)
                    )
        done += len(batch)
        yield batch
        self._log.info(
            "restored",
            partition=partition,
            messages=done,
            seconds=round(time.monotonic() - started_s, 3),
        )

    def _problem(self, meta: CopyMeta | None, ends: Mapping[str, int]) -> str | None:
        """Returns why a copy cannot be used, or None."""
        if meta is None:
            return "it is empty"
        if meta.topic_ids != self.topic_ids:
            return "it was built from other topics"
        if self.clock_ms() - meta.written_ms > self._usable_ms:
            return "it is older than the tombstones it may have missed"
        if any(offset > ends[topic] for topic, offset in meta.next_offsets.items()):
            return "it is ahead of the topics"
        return None
