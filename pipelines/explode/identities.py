"""What a worker keeps of the topic `identities`: a copy of its partitions, and what it learned.

    learned     entries that the topic does not show yet, whether written already or not
    stores      what the topic says, one for each partition (`pipelines.explode.store`)

What is learned goes out in the transaction of the frame that asked for it and comes back through
the topic, like what others write: an import, or the worker that had the partition before. So a
worker that takes a partition over does not ask the directory for what its predecessor knew.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from pipelines.atproto.syntax import Did
from pipelines.errors import IdentityUnavailableError
from pipelines.explode.store import IdentityStore
from pipelines.identity.entries import IdentityEntry, encode_entry, parse_entry
from pipelines.kafka.copies import CopyMeta, Original
from pipelines.kafka.following import Follower
from pipelines.kafka.messages import InputMessage, OutputMessage
from pipelines.kafka.partition import partition_for

# Messages taken in between two batches of frames: some ten milliseconds of work.
FOLLOWED_COUNT = 1_000
# Learned and written, but not read back yet: 0.6 kB each. They come back in less than a second
# unless the worker is behind in the topic, as while an import fills it. When there are as many,
# the worker does nothing but catch up.
MAX_LEARNED_COUNT = 100_000
CATCH_UP_COUNT = 10_000
CATCH_UP_RETRY_S = 0.01


class HeldIdentities:
    """The shelf of a worker's key ring."""

    def __init__(
        self,
        topic: str,
        partitions_count: int,
        folder: Path,
        original: Original,
        partition_ends: Callable[[Sequence[int]], Mapping[int, int]],
        follower: Follower,
    ) -> None:
        """Holds nothing before `restore`.

        Args:
            topic: physical name of `identities`.
            partitions_count: how many it has.
            folder: holds a store for each partition.
            original: says whether a store may be used, and reads what it lacks.
            partition_ends: by partition, where the topic ends, once everything in it is readable.
            follower: reads on afterwards; closed with this.
        """
        self._topic = topic
        self._partitions_count = partitions_count
        self._folder = folder
        self._original = original
        self._partition_ends = partition_ends
        self._follower = follower
        self._stores: dict[int, IdentityStore] = {}
        self._learned: dict[Did, IdentityEntry] = {}
        self._unwritten: set[Did] = set()  # of these, what is still to go out
        self._written: set[Did] = set()  # and what went out but is not committed

    def get(self, did: Did) -> IdentityEntry | None:
        """Returns what is known of a DID."""
        entry = self._learned.get(did)
        if entry is not None:
            return entry
        store = self._stores.get(partition_for(did, self._partitions_count))
        return None if store is None else store.get(did)

    def check_room(self) -> None:
        """Checks that more may be learned.

        Raises:
            IdentityUnavailableError: so much is not in the topic yet, as far as it was read, that
                it has to be read on first.
        """
        if self._is_full:
            raise IdentityUnavailableError(
                f"{len(self._learned)} identities were written and are not read back yet",
                retry_after_s=CATCH_UP_RETRY_S,
            )

    def keep(self, entry: IdentityEntry) -> None:
        """Takes over something newer, to be written with the next frame of the DID."""
        self._learned[entry.did] = entry
        self._unwritten.add(entry.did)

    def take(self, did: Did, partition: int) -> list[OutputMessage]:
        """Returns the message that is to go out with a frame of a DID, if there is any."""
        if did not in self._unwritten:
            return []
        self._unwritten.discard(did)
        self._written.add(did)
        entry = self._learned[did]
        return [
            OutputMessage(
                self._topic,
                partition,
                did.encode(),
                encode_entry(entry),
                [("did", did.encode())],
                entry.fetched_us // 1_000,
            )
        ]

    def restore(self, partitions: Sequence[int]) -> Iterator[list[IdentityEntry]]:
        """Opens the stores of newly assigned partitions and reads what they lack.

        Yields the entries that were new, as `follow` returns them: whoever had the partition
        meanwhile may know of a change to a key that is still in memory here.
        """
        self._close_stores()
        mine = set(partitions)
        for did in list(self._learned):
            if partition_for(did, self._partitions_count) not in mine:
                # Its new owner asks for itself, unless ours was committed.
                del self._learned[did]
                self._unwritten.discard(did)
        ends = self._partition_ends(partitions)
        for partition in partitions:
            store = self._open(partition, ends[partition])
            self._stores[partition] = store
            assert store.meta is not None
            wanted = {self._topic: ends[partition]}
            for messages in self._original.missing(store.meta, partition, wanted):
                yield self._take_in(partition, messages)
            # To the very end: behind the last message there are markers that nobody needs again.
            store.take((), self._meta(ends[partition]))
        self._follower.assign(
            {(self._topic, partition): ends[partition] for partition in partitions}
        )

    def follow(self) -> list[IdentityEntry]:
        """Takes in what has come into the topic, and returns the entries that were new."""
        heard = []
        messages = self._follower.poll(CATCH_UP_COUNT if self._is_full else FOLLOWED_COUNT)
        messages.sort(key=attrgetter("partition"))
        for partition, group in groupby(messages, attrgetter("partition")):
            heard += self._take_in(partition, list(group))
        return heard

    def committed(self) -> None:
        """Takes note that what went out is in the topic."""
        self._written.clear()

    def discard(self) -> None:
        """Takes note that what went out is not: it will go out again."""
        self._unwritten |= self._written
        self._written.clear()

    def close(self) -> None:
        """Closes the stores and ends reading."""
        self._close_stores()
        self._follower.close()

    @property
    def _is_full(self) -> bool:
        # What is still to go out goes with a frame that the worker has, and counts as its.
        return len(self._learned) - len(self._unwritten) >= MAX_LEARNED_COUNT

    def _open(self, partition: int, end: int) -> IdentityStore:
        folder = self._folder / str(partition)
        store = self._original.open(folder, {self._topic: end}, IdentityStore)
        if store is None:
            store = IdentityStore(folder)
            store.take((), self._meta(0))
        return store

    def _take_in(self, partition: int, messages: Sequence[InputMessage]) -> list[IdentityEntry]:
        if not messages:
            return []
        store = self._stores[partition]
        heard = store.take(messages, self._meta(messages[-1].offset + 1))
        for message in messages:
            self._forget_shown(message)
        return heard

    def _forget_shown(self, message: InputMessage) -> None:
        """Forgets what was learned of an account if the topic shows it now, or something newer.

        Also if the store has something that is newer still: a clock elsewhere may be ahead.
        """
        assert message.key is not None
        did = Did(message.key.decode())
        learned = self._learned.get(did)
        if learned is None or message.value is None:
            return
        entry = parse_entry(message.value)
        # Of two with the same moment the later counts, and ours may still be on its way.
        if entry == learned or entry.as_of_us > learned.as_of_us:
            del self._learned[did]
            self._unwritten.discard(did)
            self._written.discard(did)

    def _meta(self, next_offset: int) -> CopyMeta:
        original = self._original
        return CopyMeta(original.topic_ids, {self._topic: next_offset}, original.clock_ms())

    def _close_stores(self) -> None:
        self._follower.assign({})
        for store in self._stores.values():
            store.close()
        self._stores.clear()
