"""Made-up snapshots of repositories: chunks and manifests as resync writes them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from support.events import DID, rev
from support.oracle import cid_of, dag_cbor

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.syntax import Did
from pipelines.repair.chunks import encode_chunk, encode_record
from pipelines.repair.manifests import Absent, RepoError, Snapshot
from pipelines.repair.requests import Cause

HOST = "pds.example"


def record_block(text: str) -> bytes:
    """Returns a record that says something."""
    return dag_cbor({"$type": "com.example.note", "text": text})


def record_cid(text: str) -> str:
    """Returns the CID of that record."""
    return encode_cid(cid_of(record_block(text)))


def chunk_values(
    number: int, records: Mapping[str, str], did: Did = DID, chunk_count: int = 2
) -> list[bytes]:
    """Returns the chunks of a repository.

    Args:
        number: of its commit; see `support.events`.
        records: what each record says, by path.
        did: the repository.
        chunk_count: records in a chunk.
    """
    encoded = []
    for path, text in sorted(records.items()):
        block, (collection, rkey) = record_block(text), path.split("/")
        encoded.append(encode_record(collection, rkey, cid_of(block), block))
    return [
        encode_chunk(did, rev(number), index, encoded[start : start + chunk_count])
        for index, start in enumerate(range(0, len(encoded), chunk_count))
    ]


def snapshot_of(
    number: int, records_count: int, values: Sequence[bytes], **changes: Any
) -> Snapshot:
    """Returns the manifest of chunks that begin at offset 0; the commit is that of the number."""
    snapshot = Snapshot(
        did=DID,
        rev=rev(number),
        commit=f"commit-{number}",
        data=f"root-{number}",
        commit_block=f"block-{number}",
        records_count=records_count,
        chunks_count=len(values),
        chunks_sha256=hashlib.sha256(b"".join(values)).hexdigest(),
        first_chunk_offset=0,
        end_chunk_offset=len(values),
        host=HOST,
        fetched_us=1_000_000 + number,
        cause=Cause.DESYNCHRONIZED,
    )
    return replace(snapshot, **changes)


def absent(
    error: RepoError, status: str | None, fetched_us: int = 2_000_000_000_000_000
) -> Absent:
    """Returns what a server says that has no repository."""
    return Absent(DID, error, status, HOST, fetched_us, Cause.DESYNCHRONIZED)
