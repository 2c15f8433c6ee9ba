"""Records of a repository as its server had them, and their form in the topic `chunks`. Pure.

A writer encodes record by record, so that it knows the size of a chunk before it is complete.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from pipelines.atproto import atjson
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.errors import DagCborError
from pipelines.atproto.syntax import Did, Nsid, RecordKey, Tid
from pipelines.kafka.messages import OutputMessage

# A chunk is closed once it has this size. With one more record, of 2 MiB of JSON at most, it stays
# far below the topic's limit; with less, a large repository would be very many messages.
CHUNK_BYTES = 512 * 1024


class ChunkRecord(NamedTuple):
    """A record in a chunk; the last three as in "Records without JSON" of `schemas/README.md`.

    Attributes:
        collection: NSID.
        rkey: record key.
        cid: the record's CID, as text.
        record: the record, or None where there is no faithful JSON form.
        record_error: why there is none, or None.
        record_cbor: the block in base64 where there is none, or None.
    """

    collection: Nsid
    rkey: RecordKey
    cid: str
    record: dict[str, Any] | None
    record_error: str | None
    record_cbor: str | None

    @property
    def path(self) -> str:
        """The record's path in its repository."""
        return f"{self.collection}/{self.rkey}"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some records of a repository.

    Attributes:
        did: the repository.
        rev: revision of the snapshot's commit.
        index: which chunk of the snapshot it is, from 0.
        records: one at least, in the order of the paths' bytes.
    """

    did: Did
    rev: Tid
    index: int
    records: tuple[ChunkRecord, ...]


def encode_record(collection: str, rkey: str, cid: bytes, block: bytes) -> bytes:
    """Returns a record as it stands in a chunk: a JSON object.

    Args:
        collection: NSID.
        rkey: record key.
        cid: raw CID of the record.
        block: the record, DAG-CBOR; one without a faithful JSON form goes out as CBOR.
    """
    record: orjson.Fragment | None = None
    record_error: str | None = None
    record_cbor: str | None = None
    try:
        record = orjson.Fragment(atjson.to_json(block))
    except DagCborError as error:
        record_error = error.reason
        record_cbor = base64.b64encode(block).decode()
    return orjson.dumps(
        {
            "collection": collection,
            "rkey": rkey,
            "cid": encode_cid(cid),
            "record": record,
            "record_error": record_error,
            "record_cbor": record_cbor,
        }
    )


def encode_chunk(did: Did, rev: Tid, index: int, records: Sequence[bytes]) -> bytes:
    """Returns the value of a chunk: JSON, version 1.

    Args:
        did: the repository.
        rev: revision of the snapshot's commit.
        index: which chunk of the snapshot it is, from 0.
        records: made by `encode_record`, one at least, in the order of the paths' bytes.
    """
    return orjson.dumps(
        {
            "did": did,
            "rev": rev,
            "index": index,
            "records": [orjson.Fragment(record) for record in records],
        }
    )


def chunk_message(
    did: Did, rev: Tid, value: bytes, fetched_us: int, partition: int, topic: str
) -> OutputMessage:
    """Returns the message of a chunk.

    Args:
        did: the repository.
        rev: revision of the snapshot's commit.
        value: made by `encode_chunk`.
        fetched_us: as in the manifest that will name the chunk.
        partition: of the repository.
        topic: physical name of `chunks`.
    """
    raw_did = did.encode()
    headers = [("did", raw_did), ("rev", rev.encode())]
    return OutputMessage(topic, partition, raw_did, value, headers, fetched_us // 1_000)


def parse_chunk(value: bytes) -> Chunk:
    """Takes a message value apart.

    Args:
        value: JSON, version 1.

    Raises:
        ValueError: it is of another shape, which a newer version may have written.
    """
    try:
        fields = orjson.loads(value)
        records = tuple([ChunkRecord(**record) for record in fields["records"]])
        return Chunk(fields["did"], fields["rev"], fields["index"], records)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a chunk of version 1: {error!r}") from error
