"""The proof of a whole repository, piece by piece, without any way of reading of its own.

The module `pipelines.atproto.repo` has the terms, the checks and what most callers want.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from pipelines.atproto import mst
from pipelines.atproto.car import CarReader
from pipelines.atproto.commit import SignedCommit, check_record_size, parse_root
from pipelines.atproto.errors import (
    CarError,
    CommitError,
    IdentifierError,
    MstError,
    ProtocolError,
    Reason,
)
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.spill import Spill
from pipelines.atproto.syntax import Did, parse_nsid, parse_record_key

# One record may stand under many paths while its block is in the CAR once: a node of 40 kB could
# so ask for a gigabyte. Honest repetitions are few and small. A bound of ours. spec: C-07, M-06
MAX_REPEATED_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What a repository may cost.

    Attributes:
        car_bytes: size of a CAR. Bounds the work: some minutes for the default.
        spill_bytes: size of a CAR that is not in streamable order. So much is kept aside, in
            memory up to `pipelines.atproto.spill.MEMORY_BYTES` and in a temporary file beyond. A
            repository of 300,000 small records has about 150 MB.
    """

    car_bytes: int = 8 * 1024**3
    spill_bytes: int = 2 * 1024**3


DEFAULT_LIMITS = Limits()


class RepoRecord(NamedTuple):
    """A record that is proven to be in the repository.

    Attributes:
        path: `collection/rkey`.
        cid: raw CID.
        block: the record, hashed but not decoded.
    """

    path: str
    cid: bytes
    block: bytes


@dataclass(frozen=True, slots=True)
class VerifiedRepo:
    """A proven repository.

    Attributes:
        commit: its signed commit object.
        commit_cid: the commit's CID.
        record_count: how many records it has.
        node_count: of how many nodes its tree is made.
        block_count: blocks in the CAR, with repetitions and those that nothing refers to.
        byte_count: size of the CAR.
    """

    commit: SignedCommit
    commit_cid: bytes
    record_count: int
    node_count: int
    block_count: int
    byte_count: int


class RepoReader:
    """Takes a CAR in pieces and gives the records of its repository in the order of their paths.

    `feed` each piece, then exhaust `finish`; then `verified` is there. A context manager, which
    lets go of the spill file. After an error it is of no more use.
    """

    def __init__(
        self,
        signing_key: VerifyingKey,
        *,
        did: Did | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Starts before the first byte.

        Args:
            signing_key: of the account.
            did: the account, if the commit is to be of a certain one.
            limits: what the repository may cost.
        """
        self._signing_key = signing_key
        self._did = did
        self._limits = limits
        self._car = CarReader()
        # None once it has grown beyond its limit, or is not needed any more.
        self._spill: Spill | None = Spill()
        self._commit: SignedCommit | None = None
        self._walk: mst.Traversal | None = None  # None before the commit and after the last block
        self._wanted: mst.Wanted = (b"", None)
        self._follows_arrival = True
        self._is_whole = False  # all blocks of the tree were there
        self._verified: VerifiedRepo | None = None
        self._collection = ""
        self._byte_count = 0
        self._block_count = 0
        self._node_count = 0
        self._record_count = 0
        self._record_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drop_spill()

    @property
    def verified(self) -> VerifiedRepo:
        """The proven repository; RuntimeError before the end."""
        if self._verified is None:
            raise RuntimeError("a repository is verified when its last record has been read")
        return self._verified

    @property
    def commit(self) -> SignedCommit | None:
        """The commit, once its signature was checked: before the first record is given."""
        return self._commit

    def feed(self, piece: bytes) -> list[RepoRecord]:
        """Takes the next bytes of the CAR.

        Returns:
            The records that they prove. For a CAR that is not in streamable order they come
            from `finish`.

        Raises:
            ProtocolError: a block, the commit, its signature or the tree is bad, or a limit is
                passed.
            OSError: the spill file cannot be written.
        """
        try:
            sections = self._car.feed(piece)
            self._byte_count += len(piece)
            self._block_count += len(sections)
            if self._byte_count > self._limits.car_bytes:
                raise _too_large(f"more than {self._limits.car_bytes} bytes")
            if self._is_whole:
                return []  # hashed, and not needed
            self._keep(piece, sections)
            return self._follow(sections) if self._follows_arrival else []
        except ProtocolError as error:
            self._explain(error)
            raise

    def finish(self) -> Iterator[RepoRecord]:
        """Says that the CAR has ended.

        Yields:
            The records that were not proven by then.

        Raises:
            ProtocolError: as `feed`, or something is missing.
            OSError: the spill file cannot be read.
        """
        try:
            self._car.close()
            if not self._is_whole:
                if self._follows_arrival:
                    self._leave_arrival()
                yield from self._read_spill()
        except ProtocolError as error:
            self._explain(error)
            raise
        assert self._commit is not None
        self._verified = VerifiedRepo(
            commit=self._commit,
            commit_cid=self._car.roots[0],
            record_count=self._record_count,
            node_count=self._node_count,
            block_count=self._block_count,
            byte_count=self._byte_count,
        )

    def _keep(self, piece: bytes, sections: Sequence[tuple[bytes, bytes]]) -> None:
        """Keeps a piece aside, as long as the CAR may still turn out to be in another order."""
        spill = self._spill
        if spill is None:
            return
        if spill.byte_count + len(piece) <= self._limits.spill_bytes:
            spill.write(piece)
            if not self._follows_arrival:
                spill.index(sections, self._car.taken_bytes)
        elif self._follows_arrival:
            self._drop_spill()
        else:
            raise self._too_large_to_spill()

    def _follow(self, sections: list[tuple[bytes, bytes]]) -> list[RepoRecord]:
        """Walks on with blocks as they arrive, until one is not the one that is wanted."""
        records: list[RepoRecord] = []
        if self._walk is None:
            if not sections:
                return records
            if sections[0][0] != self._car.roots[0]:
                self._leave_arrival()
                return records
            self._walk = self._open_commit(sections[0][1])
            del sections[0]
        send = self._walk.send
        cid_wanted, key = self._wanted
        try:
            for cid, block in sections:
                if cid != cid_wanted:
                    self._leave_arrival()
                    break
                if key is None:
                    self._node_count += 1
                else:
                    records.append(self._record(key, cid, block))
                cid_wanted, key = send(block)
        except StopIteration:
            self._is_whole = True
            self._drop_spill()
        self._wanted = cid_wanted, key
        self._record_count += len(records)
        return records

    def _leave_arrival(self) -> None:
        """Stops to follow: from now on blocks are only collected."""
        self._follows_arrival = False
        spill = self._spill
        if spill is None:
            raise self._too_large_to_spill()
        again = CarReader()
        for piece in spill.pieces():
            sections = again.feed(piece)
            spill.index(sections, again.taken_bytes)

    def _read_spill(self) -> Iterator[RepoRecord]:
        """Walks on with blocks from the spill."""
        spill = self._spill
        assert spill is not None
        if self._walk is None:
            self._walk = self._open_commit(spill.read(self._car.roots[0]))
        send = self._walk.send
        cid, key = self._wanted
        try:
            while True:
                block = spill.read(cid)
                if block is None:
                    raise _missing(key)
                if key is None:
                    self._node_count += 1
                else:
                    record = self._record(key, cid, block)
                    check_repetition(self._record_bytes, self._byte_count)
                    self._record_count += 1
                    yield record
                cid, key = send(block)
        except StopIteration:
            self._is_whole = True

    def _open_commit(self, block: bytes | None) -> mst.Traversal:
        commit = parse_root(block)
        if self._did is not None and commit.did != self._did:
            raise CommitError(Reason.COMMIT_DID_MISMATCH, f"the commit is of {commit.did}")
        self._signing_key.verify(commit.unsigned, commit.signature)
        self._commit = commit
        walk = mst.traverse(commit.data_cid)
        self._wanted = next(walk)
        return walk

    def _record(self, key: bytes, cid: bytes, block: bytes) -> RepoRecord:
        try:
            path = key.decode()
            collection, _, rkey = path.partition("/")
            # Records of one collection stand together.
            if collection != self._collection:
                self._collection = parse_nsid(collection)
            parse_record_key(rkey)
        except (UnicodeDecodeError, IdentifierError):
            raise MstError(Reason.MST_KEY, f"{key[:80]!r} is not the path of a record") from None
        check_record_size(block, path)
        self._record_bytes += len(block)
        return RepoRecord(path, cid, block)

    def _explain(self, error: ProtocolError) -> None:
        if self._commit is not None:
            error.did, error.rev = self._commit.did, self._commit.rev

    def _too_large_to_spill(self) -> CarError:
        return _too_large(
            f"not in streamable order, and more than {self._limits.spill_bytes} bytes; "
            "raise `Limits.spill_bytes`"
        )

    def _drop_spill(self) -> None:
        if self._spill is not None:
            self._spill.close()
            self._spill = None


def check_repetition(record_bytes: int, car_bytes: int) -> None:
    """Refuses a CAR that has the same records stand under too many paths.

    Args:
        record_bytes: sizes of its records, each as often as it is named.
        car_bytes: its size.

    Raises:
        CarError: `car.too_large`.
    """
    if record_bytes > car_bytes + MAX_REPEATED_BYTES:
        raise _too_large("the same records under too many paths")


def _missing(key: bytes | None) -> ProtocolError:
    if key is None:
        return MstError(Reason.MST_BLOCK_MISSING, "a node is not in the CAR")
    path = key.decode("utf-8", "replace")
    return CommitError(Reason.COMMIT_RECORD_MISSING, "a record is not in the CAR", path=path)


def _too_large(detail: str) -> CarError:
    return CarError(Reason.CAR_TOO_LARGE, detail)
