"""The state of one partition as the stage sees it: the store, and above it what is not committed.

    overlay     changes since the last commit; forgotten when the batch is
    cache       repositories that were read or written lately, decoded (CACHED_REPOS_COUNT)
    store       what the topics hold, up to its positions

Changes reach the store only when their transaction has committed, in one batch with the positions
of its messages.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping

from pipelines.atproto.cid import parse_cid
from pipelines.atproto.syntax import Did, Tid
from pipelines.compact.events import EventOp
from pipelines.compact.state import RepoState, Sync, encode_repo, parse_repo
from pipelines.compact.store import Changes, Meta, Record, Store

# About 1.5 kB each. The accounts that are active at a time come again and again.
CACHED_REPOS_COUNT = 10_000


class HeldPartition:
    """One partition's repositories and records."""

    def __init__(self, store: Store) -> None:
        """Starts on a store that is current.

        Args:
            store: restored; closed with this.
        """
        assert store.meta is not None
        self._store = store
        self._meta: Meta = store.meta
        self._cache: OrderedDict[Did, RepoState] = OrderedDict()
        self._overlay: dict[Did, RepoState] = {}
        self._records: dict[tuple[Did, str], Record | None] = {}
        self._purging: set[Did] = set(store.purging())
        # In the order in which the deletions and the snapshots came.
        self._deleted: dict[Did, int] = dict(sorted(store.deleted(), key=lambda item: item[1]))
        pending = sorted(store.applying(), key=lambda item: item[1])
        self._applying: dict[Did, int] = dict(pending)

    def close(self) -> None:
        """Forgets what is not committed and closes the store."""
        self._store.close()

    @property
    def repos_count(self) -> Counter[Sync]:
        """How many repositories are in which sync state, as committed."""
        return self._meta.repos_count

    @property
    def purging(self) -> set[Did]:
        """Repositories whose records are being purged, as committed."""
        return self._purging

    @property
    def deleted_count(self) -> int:
        """How many deletions wait for a confirmation, as committed."""
        return len(self._deleted)

    @property
    def first_deleted(self) -> tuple[Did, int] | None:
        """The repository whose deletion waits for longest, as committed, and since when."""
        return next(iter(self._deleted.items()), None)

    @property
    def first_applying(self) -> Did | None:
        """The repository whose snapshot came first of those to be applied, as committed."""
        return next(iter(self._applying), None)

    def repo(self, did: Did) -> RepoState | None:
        """Returns a repository's state, uncommitted changes included."""
        state = self._overlay.get(did)
        return self._committed_repo(did) if state is None else state

    def records(self, did: Did, after_path: str | None = None) -> Iterator[tuple[str, Record]]:
        """Yields the committed records of a repository in the order of their paths.

        Args:
            did: the repository.
            after_path: those behind this path only; all by default.
        """
        return self._store.records(did, after_path)

    def repo_after(self, did: Did | None) -> RepoState | None:
        """Returns the committed state of the repository that follows a DID.

        Args:
            did: whose successor is wanted; None for the first repository.
        """
        value = self._store.repo_after(did)
        return None if value is None else parse_repo(value)

    def put(self, state: RepoState, rev: Tid | None, ops: tuple[EventOp, ...]) -> None:
        """Takes over a new state and what a commit or snapshot did to the records.

        Args:
            state: of the repository.
            rev: revision of the commit or snapshot; not needed without operations.
            ops: operations on the records.
        """
        self._overlay[state.did] = state
        for op in ops:
            assert rev is not None
            record = None if op.cid is None else Record(parse_cid(op.cid), rev)
            self._records[state.did, op.path] = record

    def remove_record(self, did: Did, path: str) -> None:
        """Takes over that a record is gone."""
        self._records[did, path] = None

    def discard(self) -> None:
        """Forgets what is not committed."""
        self._overlay.clear()
        self._records.clear()

    def commit(self, next_offsets: Mapping[str, int], now_ms: int) -> None:
        """Writes what was committed to the store.

        Args:
            next_offsets: by topic, the offset after our last message.
            now_ms: milliseconds since the epoch.
        """
        if not self._overlay and not self._records:
            return
        changes = Changes(records=self._records)
        counts = Counter(self._meta.repos_count)
        for did, state in self._overlay.items():
            before = self._committed_repo(did)
            if before is not None:
                counts[before.sync] -= 1
            counts[state.sync] += 1
            changes.repos[did] = encode_repo(state)
            if state.is_purging != (did in self._purging):
                changes.purging[did] = state.is_purging
            if state.deletion_us != self._deleted.get(did):
                changes.deleted[did] = state.deletion_us
            if state.pending_snapshot != self._applying.get(did):
                changes.applying[did] = state.pending_snapshot
        meta = Meta(
            self._meta.topic_ids,
            {**self._meta.next_offsets, **next_offsets},
            now_ms,
            +counts,
        )
        self._store.write(changes, meta)
        self._meta = meta
        for did, is_purging in changes.purging.items():
            (self._purging.add if is_purging else self._purging.discard)(did)
        for kept, numbers in (
            (self._deleted, changes.deleted),
            (self._applying, changes.applying),
        ):
            for did, number in numbers.items():
                kept.pop(did, None)
                if number is not None:
                    kept[did] = number
        for did, state in self._overlay.items():
            self._remember(did, state)
        self._overlay = {}
        self._records = {}

    def _committed_repo(self, did: Did) -> RepoState | None:
        state = self._cache.get(did)
        if state is not None:
            self._cache.move_to_end(did)
            return state
        value = self._store.repo(did)
        if value is None:
            return None
        state = parse_repo(value)
        self._remember(did, state)
        return state

    def _remember(self, did: Did, state: RepoState) -> None:
        self._cache[did] = state
        self._cache.move_to_end(did)
        if len(self._cache) > CACHED_REPOS_COUNT:
            self._cache.popitem(last=False)
