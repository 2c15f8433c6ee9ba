r"""One partition's state on disk: a cache of `repos` and `latest.*` in RocksDB.

    m                       what the store is and how far it has come (JSON)
    r<did>                  the repository, as in `repos`
    g<did>                  empty; the repository's records are being purged
    d<did>                  the records of the repository wait until its deletion is confirmed:
                            since when (8 bytes)
    a<did>                  a snapshot of the repository is being applied: its offset (8 bytes)
    p<did>\0<path>          CID (36 bytes) and revision (13) of a record; then, where a former
                            topic of its collection has one of this revision: the CID of that
                            one, or one byte if only the former topic has it

Everything that belongs together is written in one batch, together with the positions up to which
it reflects the topics. A crash so leaves a store that is a little behind, never one that is wrong:
the rest is read from the topics at the next start. Bodies of records are not kept.

Memory: `MEMTABLE_BYTES` and `BLOCK_CACHE_BYTES` of `pipelines.rocks` for each partition.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rocksdict import WriteBatch

from pipelines.atproto.cid import CID_BYTES
from pipelines.atproto.syntax import Did, Tid
from pipelines.compact.state import Sync
from pipelines.kafka.copies import CopyMeta
from pipelines.rocks import open_rocks, put, put_meta, scan

# Raised when the layout changes: a store of another format is built anew.
FORMAT = 4

_REPO, _PURGING, _DELETED, _APPLYING, _RECORD = b"r", b"g", b"d", b"a", b"p"
_NUMBER_BYTES = 8
_REV_BYTES = 13
_ONLY_FORMER = b"f"


class Record(NamedTuple):
    """What is kept of a record.

    Attributes:
        cid: raw CID.
        rev: revision of the commit that wrote it.
        is_former: whether it lies in a former topic of its collection, and not in the one where
            the collection belongs now.
        former_cid: raw CID of what a former topic has under the same revision, where both topics
            have something; None otherwise. One of the two is outdated, and the topic that has it
            goes on with a null.
    """

    cid: bytes
    rev: Tid
    is_former: bool = False
    former_cid: bytes | None = None


@dataclass(slots=True)
class Meta(CopyMeta):
    """What a store is, and how far it has come.

    Attributes:
        repos_count: repositories by sync state.
    """

    repos_count: Counter[Sync] = field(default_factory=Counter)


@dataclass(slots=True)
class Changes:
    """What to write in one batch.

    Attributes:
        repos: value in `repos` by DID; None removes.
        purging: whether a repository's records are being purged, by DID, where that changed.
        deleted: since when a deletion waits for a confirmation, by DID, where that changed; None
            for none.
        applying: offset of the snapshot that is being applied, by DID, where that changed; None
            for none.
        records: by DID and path; None removes.
    """

    repos: dict[Did, bytes | None] = field(default_factory=dict)
    purging: dict[Did, bool] = field(default_factory=dict)
    deleted: dict[Did, int | None] = field(default_factory=dict)
    applying: dict[Did, int | None] = field(default_factory=dict)
    records: dict[tuple[Did, str], Record | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.repos or self.records or self.purging or self.deleted or self.applying)


class Store:
    """An open store.

    Attributes:
        meta: as it was last written; None for a store without any content.
    """

    def __init__(self, folder: Path) -> None:
        """Opens a store, or makes an empty one.

        Args:
            folder: where it is; nobody else may have it open.

        Raises:
            StoreError: there is one that cannot be read.
        """
        self._db, self.meta = open_rocks(folder, FORMAT, _parse_meta)

    def close(self) -> None:
        """Closes the store."""
        self._db.close()

    def repo(self, did: Did) -> bytes | None:
        """Returns a repository's value in `repos`."""
        return self._db.get(_REPO + did.encode())

    def repos(self) -> Iterator[bytes]:
        """Yields the value of every repository, in the order of the DIDs."""
        for _, value in scan(self._db, _REPO):
            yield value

    def repo_after(self, did: Did | None) -> bytes | None:
        """Returns the value of the repository that follows a DID; None behind the last one.

        Args:
            did: whose successor is wanted; None for the first repository.
        """
        start = None if did is None else _REPO + did.encode() + b"\0"
        return next((value for _, value in scan(self._db, _REPO, start)), None)

    def purging(self) -> Iterator[Did]:
        """Yields the repositories whose records are being purged."""
        for key, _ in scan(self._db, _PURGING):
            yield Did(key[1:].decode())

    def record(self, did: Did, path: str) -> Record | None:
        """Returns a record."""
        value = self._db.get(_record_prefix(did) + path.encode())
        return None if value is None else _parse_record(value)

    def deleted(self) -> Iterator[tuple[Did, int]]:
        """Yields the repositories whose deletion waits for a confirmation, and since when."""
        return self._numbers(_DELETED)

    def applying(self) -> Iterator[tuple[Did, int]]:
        """Yields the repositories that a snapshot is being applied to, and its offset."""
        return self._numbers(_APPLYING)

    def records(self, did: Did, after_path: str | None = None) -> Iterator[tuple[str, Record]]:
        """Yields a repository's records as path and record, in the order of the paths' bytes.

        Args:
            did: the repository.
            after_path: those behind this path only; all by default.
        """
        prefix = _record_prefix(did)
        # The next text after a path in the order of bytes.
        start = prefix if after_path is None else prefix + after_path.encode() + b"\0"
        for key, value in scan(self._db, prefix, start):
            yield key[len(prefix) :].decode(), _parse_record(value)

    def write(self, changes: Changes, meta: Meta) -> None:
        """Writes changes and the positions that they belong to, all or nothing."""
        batch = WriteBatch(raw_mode=True)
        for did, value in changes.repos.items():
            put(batch, _REPO + did.encode(), value)
        for did, is_purging in changes.purging.items():
            put(batch, _PURGING + did.encode(), b"" if is_purging else None)
        for prefix, numbers in ((_DELETED, changes.deleted), (_APPLYING, changes.applying)):
            for did, number in numbers.items():
                value = None if number is None else number.to_bytes(_NUMBER_BYTES)
                put(batch, prefix + did.encode(), value)
        for (did, path), record in changes.records.items():
            value = None if record is None else _encode_record(record)
            put(batch, _record_prefix(did) + path.encode(), value)
        put_meta(batch, FORMAT, _members(meta))
        self._db.write(batch)
        self.meta = meta

    def _numbers(self, prefix: bytes) -> Iterator[tuple[Did, int]]:
        for key, value in scan(self._db, prefix):
            yield Did(key[1:].decode()), int.from_bytes(value)


def _record_prefix(did: Did) -> bytes:
    # No DID holds a NUL, so no DID's prefix begins another's.
    return _RECORD + did.encode() + b"\0"


def _encode_record(record: Record) -> bytes:
    former = _ONLY_FORMER if record.is_former else record.former_cid or b""
    return record.cid + record.rev.encode() + former


def _parse_record(value: bytes) -> Record:
    cid, rev = value[:CID_BYTES], Tid(value[CID_BYTES : CID_BYTES + _REV_BYTES].decode())
    former = value[CID_BYTES + _REV_BYTES :]
    if former == _ONLY_FORMER:
        return Record(cid, rev, is_former=True)
    return Record(cid, rev, former_cid=former or None)


def _members(meta: Meta) -> dict[str, object]:
    return {
        "topic_ids": meta.topic_ids,
        "next_offsets": meta.next_offsets,
        "written_ms": meta.written_ms,
        "repos_count": {str(sync): count for sync, count in meta.repos_count.items()},
    }


def _parse_meta(members: Mapping[str, Any]) -> Meta:
    counts = {Sync(name): count for name, count in members["repos_count"].items()}
    return Meta(**{**members, "repos_count": Counter(counts)})
