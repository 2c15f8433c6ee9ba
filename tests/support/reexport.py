"""Repositories made again from messages of `latest.*`, and read by implementations not ours."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import cbrrr
import orjson
from atmst.blockstore.car_file import ReadOnlyCARBlockStore
from atmst.mst.node_store import NodeStore
from atmst.mst.node_walker import NodeWalker
from atproto_core.car import CAR
from atproto_crypto.verify import verify_signature
from support.events import source

from pipelines.atproto import atjson
from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.commit import SignedCommit, parse_commit
from pipelines.atproto.errors import DagCborError
from pipelines.atproto.frames import MAX_OPS_COUNT, Action
from pipelines.atproto.syntax import Did, Tid, parse_path
from pipelines.compact.events import Body, EventOp, Signed
from pipelines.compact.export import ExportStore
from pipelines.compact.outputs import OutputTopics, record_messages
from pipelines.compact.state import Head
from pipelines.kafka.messages import InputMessage, OutputMessage

_TOPICS = OutputTopics("repos", "resyncs", "latest.other", {})


class ForeignRepo(NamedTuple):
    """What other implementations find in a CAR.

    Attributes:
        did: in the commit.
        rev: in the commit.
        records: path → CID as text, in the order of the tree; each block was hashed.
        blocks_count: different blocks in the file.
    """

    did: str
    rev: str
    records: dict[str, str]
    blocks_count: int


def read_foreign_repo(car: bytes, did_key: str) -> ForeignRepo:
    """Reads a repository with atmst, and its signature with the atproto SDK."""
    store = ReadOnlyCARBlockStore(BytesIO(car))
    commit: Any = cbrrr.decode_dag_cbor(store.get_block(bytes(store.car_root)))
    unsigned = {name: value for name, value in commit.items() if name != "sig"}
    assert verify_signature(did_key, cbrrr.encode_dag_cbor(unsigned), commit["sig"])
    walker = NodeWalker(NodeStore(store), commit["data"])
    records: dict[str, str] = {}
    for path, cid in walker.iter_kv():
        store.get_block(bytes(cid))  # hashes it
        records[path] = cid.encode()
    return ForeignRepo(commit["did"], commit["rev"], records, len(store.block_offsets))


def read_sdk_blocks(car: bytes) -> dict[str, Any] | None:
    """Returns CID → decoded block as the atproto SDK reads them; None if it cannot."""
    try:
        return {str(cid): block for cid, block in CAR.from_bytes(car).blocks.items()}
    except ValueError:
        return None


def messages_of(did: Did, rev: Tid, blocks: Mapping[str, bytes]) -> list[OutputMessage]:
    """Returns the messages of `latest.*` for records, as compact writes them."""
    ops = [
        EventOp(Action.CREATE, *parse_path(path), encode_cid(cid_of(block)), None, body_of(block))
        for path, block in blocks.items()
    ]
    # A commit has no more operations; together they have a budget of bytes.
    return [
        message
        for start in range(0, len(ops), MAX_OPS_COUNT)
        for message in record_messages(
            did, rev, ops[start : start + MAX_OPS_COUNT], source(), 0, _TOPICS
        )
    ]


def body_of(block: bytes) -> Body:
    """Returns a record as messages carry it."""
    try:
        return Body(orjson.loads(atjson.to_json(block)), None, None)
    except DagCborError as error:
        return Body(None, error.reason, base64.b64encode(block).decode())


def head_of(commit: SignedCommit) -> Head:
    """Returns a commit as `repos` has it."""
    signed = Signed(commit.rev, encode_cid(cid_of(commit.block)), encode_cid(commit.data_cid))
    return Head(signed, base64.b64encode(commit.block).decode())


def export_again(
    folder: Path, commit: bytes, blocks: Mapping[str, bytes], also: Sequence[OutputMessage] = ()
) -> bytes:
    """Returns the CAR that is made of messages of `latest.*`.

    Args:
        folder: for the store.
        commit: block of the signed commit.
        blocks: path → block of the records that the repository has.
        also: messages that come before those of the records.
    """
    parsed = parse_commit(commit)
    return export_messages(
        folder,
        commit,
        [*also, *messages_of(parsed.did, parsed.rev, blocks)],
        {path: cid_of(block) for path, block in blocks.items()},
    )


def export_messages(
    folder: Path,
    commit: bytes,
    messages: Iterable[OutputMessage],
    cids: Mapping[str, bytes],
) -> bytes:
    """Returns the CAR that is made of any messages.

    Args:
        folder: for the store.
        commit: block of the signed commit.
        messages: of `latest.*`, in order.
        cids: path → CID of the records that the repository has.
    """
    parsed = parse_commit(commit)
    done_count = 0

    def on_record() -> None:
        nonlocal done_count
        done_count += 1

    store = ExportStore(folder)
    try:
        for offset, message in enumerate(messages):
            store.take(
                InputMessage(
                    message.topic, 0, offset, 0, message.key, message.value, list(message.headers)
                )
            )
        car = b"".join(store.pieces(parsed.did, head_of(parsed), sorted(cids.items()), on_record))
    finally:
        store.close()
    assert done_count == len(cids)
    return car
