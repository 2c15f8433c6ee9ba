"""Made-up repositories as the stage that fetches them writes them: chunks and a manifest."""

from hashlib import sha256
from typing import NamedTuple

from support.events import source
from support.exports import Export, export
from support.frames import NOW_US
from support.reexport import body_of, head_of
from support.repo import DID

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.commit import parse_commit
from pipelines.atproto.syntax import Did, parse_path
from pipelines.compact.provenance import LatestRecord
from pipelines.repair.chunks import encode_chunk, encode_record
from pipelines.repair.manifests import Snapshot
from pipelines.repair.requests import Cause

HOST = "pds.example"
FETCHED_US = NOW_US
_CHUNK_RECORDS_COUNT = 4


class Fetched(NamedTuple):
    """A repository that was fetched.

    Attributes:
        snapshot: its manifest; the chunks begin at offset 0.
        chunks: values of `chunks`.
        record: its last record as `latest.*` has it, of a manifest at offset 0.
    """

    snapshot: Snapshot
    chunks: list[bytes]
    record: LatestRecord


def fetched(did: Did = DID, count: int = 9) -> Fetched:
    """Makes a repository of some records."""
    repo = export({f"a.b.c/{n}": {"n": n} for n in range(count)}, did=did)
    chunks = _chunks_of(repo)
    head = head_of(parse_commit(repo.commit))
    snapshot = Snapshot(
        did,
        *head.signed,
        head.block,
        count,
        len(chunks),
        sha256(b"".join(chunks)).hexdigest(),
        0,
        len(chunks),
        HOST,
        FETCHED_US,
        Cause.BACKFILL,
    )
    path, cid, block = repo.contents()[-1]
    answer = source()._replace(
        host=HOST,
        seq=None,
        time=None,
        received_us=FETCHED_US,
        frame_partition=None,
        frame_offset=None,
        snapshot_offset=0,
    )
    record = LatestRecord(did, path, encode_cid(cid), snapshot.rev, answer, body_of(block))
    return Fetched(snapshot, chunks, record)


def _chunks_of(repo: Export) -> list[bytes]:
    commit = parse_commit(repo.commit)
    encoded = [encode_record(*parse_path(path), cid, body) for path, cid, body in repo.contents()]
    return [
        encode_chunk(commit.did, commit.rev, index, encoded[start : start + _CHUNK_RECORDS_COUNT])
        for index, start in enumerate(range(0, len(encoded), _CHUNK_RECORDS_COUNT))
    ]
