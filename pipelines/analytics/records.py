"""The value of a record message, as a type for Faust applications: ours and yours.

    posts = app.topic("atproto.records.app.bsky.feed.post", value_type=Record)

The contract is `schemas/json/records/`; fields that a newer version adds are kept as attributes.
The messages are zstd-compressed, which aiokafka, and so Faust, reads where the package `cramjam`
is installed.
"""

from typing import Any

import faust


class Record(faust.Record, serializer="json", include_metadata=False):
    """One operation of a proven commit.

    Attributes:
        uri: address of the record, `at://<did>/<collection>/<rkey>`; also the message key.
        did: the repository.
        collection: NSID of the collection.
        rkey: record key in the collection.
        operation: `create`, `update` or `delete`.
        cid: CID of the record afterwards; None for a delete.
        prev: CID of the record before; None for a create.
        rev: revision of the commit.
        seq: the upstream's sequence number of the frame.
        host: the upstream.
        time: when the upstream says it happened, RFC 3339; nobody checked it.
        received_us: when the bridge received the frame, microseconds since the epoch.
        frame_partition: partition of the topic frames that holds the proof.
        frame_offset: offset of the proof there.
        record: the record afterwards as AT JSON; None for a delete, and where record_error says
            why. Any JSON that a user wrote: nothing in it has a promised type.
        record_error: why a record has no JSON, or None.
        record_cbor: the block of such a record in base64, or None.
    """

    uri: str
    did: str
    collection: str
    rkey: str
    operation: str
    cid: str | None
    prev: str | None
    rev: str
    seq: int
    host: str
    time: str
    received_us: int
    frame_partition: int
    frame_offset: int
    record: dict[str, Any] | None
    record_error: str | None
    record_cbor: str | None
