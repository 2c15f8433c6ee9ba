"""Makes a store current: reads from `repos` and `latest.*` what it does not have yet.

When a store may be used, and how what it lacks is read: `pipelines.kafka.copies`.

The caller has waited until everything that predecessors wrote is readable, and nobody else writes
these partitions now.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pipelines.atproto.cid import parse_cid
from pipelines.atproto.syntax import Did
from pipelines.compact.homes import settle
from pipelines.compact.outputs import (
    OutputTopics,
    collection_of,
    record_address,
    record_headers,
)
from pipelines.compact.state import Sync, parse_repo
from pipelines.compact.store import Changes, Meta, Record, Store
from pipelines.config import KafkaConfig
from pipelines.kafka.copies import Original
from pipelines.kafka.messages import InputMessage


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
        on_record: Callable[[InputMessage], None] | None = None,
    ) -> None:
        """Prepares restorations.

        Args:
            kafka: the cluster.
            topics: the names of `repos` and `latest.*`.
            topic_ids: the cluster's ids of these topics.
            tombstone_life_ms: `delete.retention.ms` of these topics.
            clock_ms: milliseconds since the epoch.
            only: the only repository that is wanted; all by default.
            on_record: is shown every wanted message of `latest.*`, also one that another topic
                has outdone.
        """
        self._on_record = on_record
        # A store says which records lie in former topics: it is one of this very table.
        ids = {
            **topic_ids,
            **{f"home of {nsid}": topics.latest_of(nsid) for nsid in topics.former},
        }
        self._original = Original(kafka, "compact", ids, tombstone_life_ms, clock_ms)
        self._only = None if only is None else (only.encode(), f"at://{only}/".encode())
        self._topics = topics

    def open(self, folder: Path, ends: Mapping[str, int]) -> Store:
        """Opens a store if it can be used, or makes an empty one in its place.

        Args:
            folder: where the store is.
            ends: by topic, the offset after the last message in this partition.
        """
        return self._original.open(folder, ends, Store) or self.create(folder)

    def create(self, folder: Path) -> Store:
        """Makes an empty store."""
        store = Store(folder)
        original = self._original
        store.write(Changes(), Meta(original.topic_ids, written_ms=original.clock_ms()))
        return store

    def fill(self, store: Store, partition: int, ends: Mapping[str, int]) -> Iterator[None]:
        """Reads what a store lacks; yields after each batch.

        Args:
            store: opened by `open`.
            partition: its partition in every topic.
            ends: as for `open`.
        """
        assert store.meta is not None
        batch = _Batch(store, self._topics, self._on_record)
        for messages in self._original.missing(store.meta, partition, ends):
            for message in messages:
                batch.add(message, is_wanted=self._is_wanted(message.key))
            batch.write(self._original.clock_ms())
            yield
        # To the very ends: behind the last message there are markers that nobody needs again.
        batch.next_offsets.update(ends)
        batch.write(self._original.clock_ms())
        yield

    def _is_wanted(self, key: bytes | None) -> bool:
        if self._only is None or key is None:
            return True
        did, prefix = self._only
        return key == did or key.startswith(prefix)


class _Batch:
    """Messages of one partition on their way into a store."""

    def __init__(
        self,
        store: Store,
        topics: OutputTopics,
        on_record: Callable[[InputMessage], None] | None,
    ) -> None:
        assert store.meta is not None
        self._on_record = on_record
        self._store = store
        self._topics = topics
        self._changes = Changes()
        self.next_offsets = dict(store.meta.next_offsets)

    def add(self, message: InputMessage, *, is_wanted: bool) -> None:
        assert message.key is not None
        self.next_offsets[message.topic] = message.offset + 1
        if not is_wanted:
            return
        if message.topic == self._topics.repos:
            self._changes.repos[Did(message.key.decode())] = message.value
            return
        address = record_address(message.key)
        headers = record_headers(message.headers)
        cid = None if headers.cid is None else parse_cid(headers.cid)
        collection = collection_of(address[1])
        # Where a collection has one topic only, the later message counts: no look-up.
        known = self._record(address) if self._topics.former.get(collection) else None
        is_former = message.topic != self._topics.latest_of(collection)
        record = settle(known, cid, headers.rev, is_former=is_former)
        self._changes.records[address] = record
        if self._on_record is not None:
            self._on_record(message)

    def _record(self, address: tuple[Did, str]) -> Record | None:
        if address in self._changes.records:
            return self._changes.records[address]
        return self._store.record(*address)

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
                self._changes.deleted[did] = state.deletion_us
                self._changes.applying[did] = state.pending_snapshot
            else:
                self._changes.purging[did] = False
                self._changes.deleted[did] = None
                self._changes.applying[did] = None
        self._store.write(
            self._changes, Meta(old.topic_ids, dict(self.next_offsets), now_ms, +counts)
        )
        self._changes = Changes()


def _sync_of(value: bytes) -> Sync:
    return parse_repo(value).sync
