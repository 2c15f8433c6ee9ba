"""Makes a store current: reads from `repos` and `latest.*` what it does not have yet.

A store is used as far as it goes if it was built from these very topics and is younger than their
tombstones' life; otherwise tombstones that it has not seen may be gone, and it is built anew. So
is one that is missing or cannot be read.

The caller has waited until everything that predecessors wrote is readable, and nobody else writes
these partitions now.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pipelines import logs
from pipelines.atproto.cid import parse_cid
from pipelines.atproto.syntax import Did
from pipelines.compact.outputs import OutputTopics, record_address, record_headers
from pipelines.compact.state import Sync, parse_repo
from pipelines.compact.store import Changes, Meta, Record, Store
from pipelines.config import KafkaConfig
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.reading import read_between
from pipelines.rocks import StoreError, remove_store

# One write to the store, and how often the caller hears of us.
BATCH_MESSAGES = 5_000
PROGRESS_INTERVAL_S = 5.0
# Of the tombstones' life, so that a store in use does not come close to it.
_USABLE_SHARE = 0.5

_log = logs.get_logger("compact")


class Restoration:
    """Restores the stores of a deployment."""

    def __init__(
        self,
        kafka: KafkaConfig,
        topics: OutputTopics,
        topic_ids: Mapping[str, str],
        tombstone_life_ms: int,
        clock_ms: Callable[[], int],
        only: Did | None = None,
    ) -> None:
        """Prepares restorations.

        Args:
            kafka: the cluster.
            topics: the names of `repos` and `latest.*`.
            topic_ids: the cluster's ids of these topics.
            tombstone_life_ms: `delete.retention.ms` of these topics.
            clock_ms: milliseconds since the epoch.
            only: the only repository that is wanted; all by default.
        """
        self._kafka = kafka
        self._only = None if only is None else (only.encode(), f"at://{only}/".encode())
        self._repos = topics.repos
        self._topic_ids = dict(topic_ids)
        self._usable_ms = int(tombstone_life_ms * _USABLE_SHARE)
        self._clock_ms = clock_ms

    def open(self, folder: Path, ends: Mapping[str, int]) -> Store:
        """Opens a store if it can be used, or makes an empty one in its place.

        Args:
            folder: where the store is.
            ends: by topic, the offset after the last message in this partition.
        """
        try:
            store = Store(folder)
        except StoreError as error:
            _log.warning("store_rebuilt", folder=str(folder), detail=str(error))
        else:
            problem = self._problem(store.meta, ends)
            if problem is None:
                return store
            if store.meta is not None:
                _log.warning("store_rebuilt", folder=str(folder), detail=problem)
            store.close()
        remove_store(folder)
        return self.create(folder)

    def create(self, folder: Path) -> Store:
        """Makes an empty store."""
        store = Store(folder)
        store.write(Changes(), Meta(self._topic_ids, written_ms=self._clock_ms()))
        return store

    def fill(self, store: Store, partition: int, ends: Mapping[str, int]) -> Iterator[None]:
        """Reads what a store lacks; yields after each batch.

        Args:
            store: opened by `open`.
            partition: its partition in every topic.
            ends: as for `open`.
        """
        assert store.meta is not None
        starts = {(topic, partition): store.meta.next_offsets.get(topic, 0) for topic in ends}
        targets = {(topic, partition): end for topic, end in ends.items()}
        total = sum(max(0, targets[where] - start) for where, start in starts.items())
        started_s = reported_s = time.monotonic()
        done = 0
        batch = _Batch(store, self._repos)
        for message in read_between(self._kafka, starts, targets):
            batch.add(message, is_wanted=self._is_wanted(message.key))
            if batch.count >= BATCH_MESSAGES:
                done += batch.count
                batch.write(self._clock_ms())
                yield
                if time.monotonic() - reported_s > PROGRESS_INTERVAL_S:
                    reported_s = time.monotonic()
                    rate = done / (reported_s - started_s)
                    _log.info(
                        "restoring", partition=partition, done=done, total=total, per_s=int(rate)
                    )
        done += batch.count
        # To the very ends: behind the last message there are markers that nobody needs again.
        batch.next_offsets.update(ends)
        batch.write(self._clock_ms())
        _log.info(
            "restored",
            partition=partition,
            messages=done,
            seconds=round(time.monotonic() - started_s, 3),
        )
        yield

    def _is_wanted(self, key: bytes | None) -> bool:
        if self._only is None or key is None:
            return True
        did, prefix = self._only
        return key == did or key.startswith(prefix)

    def _problem(self, meta: Meta | None, ends: Mapping[str, int]) -> str | None:
        """Returns why a store cannot be used, or None."""
        if meta is None:
            return "it is empty"
        if meta.topic_ids != self._topic_ids:
            return "it was built from other topics"
        if self._clock_ms() - meta.written_ms > self._usable_ms:
            return "it is older than the tombstones it may have missed"
        if any(offset > ends[topic] for topic, offset in meta.next_offsets.items()):
            return "it is ahead of the topics"
        return None


class _Batch:
    """Messages of one partition on their way into a store."""

    def __init__(self, store: Store, repos_topic: str) -> None:
        assert store.meta is not None
        self._store = store
        self._repos_topic = repos_topic
        self._changes = Changes()
        self.next_offsets = dict(store.meta.next_offsets)
        self.count = 0

    def add(self, message: InputMessage, *, is_wanted: bool) -> None:
        assert message.key is not None
        self.count += 1
        self.next_offsets[message.topic] = message.offset + 1
        if not is_wanted:
            return
        if message.topic == self._repos_topic:
            self._changes.repos[Did(message.key.decode())] = message.value
            return
        address = record_address(message.key)
        headers = record_headers(message.headers)
        record = None if headers.cid is None else Record(parse_cid(headers.cid), headers.rev)
        self._changes.records[address] = record

    def write(self, now_ms: int) -> None:
        old = self._store.meta
        assert old is not None
        counts = old.repos_count
        for did, value in self._changes.repos.items():
            before = self._store.repo(did)
            if before is not None:
                counts[_sync_of(before)] -= 1
            if value is not None:
                state = parse_repo(value)
                counts[state.sync] += 1
                self._changes.purging[did] = state.is_purging
            else:
                self._changes.purging[did] = False
        self._store.write(
            self._changes, Meta(old.topic_ids, dict(self.next_offsets), now_ms, +counts)
        )
        self._changes = Changes()
        self.count = 0


def _sync_of(value: bytes) -> Sync:
    return parse_repo(value).sync
