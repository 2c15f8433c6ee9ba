"""Frames of the event stream as a relay sends them, encoded with cbor2.

Keys are written in canonical order, which is theirs below, so that the faster encoding that keeps
the order gives canonical bytes. Source: atproto.com/specs/event-stream; lexicon
com.atproto.sync.subscribeRepos. spec: F-10…F-14, F-40…F-44, J-03
"""

from collections.abc import Iterable
from typing import Any

import cbor2

from pipelines.atproto.commit import SignedCommit
from pipelines.atproto.frames import Op
from pipelines.atproto.syntax import Did, Handle, Tid
from pipelines.subscriptions import encode_message

_LINK_TAG = 42


def commit_frame(
    seq: int,
    commit: SignedCommit,
    commit_cid: bytes,
    *,
    time: str,
    since: Tid | None,
    prev_data: bytes | None,
    ops: Iterable[Op],
    blocks: bytes,
) -> bytes:
    """Returns a `#commit`.

    Args:
        seq: position in the stream.
        commit: the new commit object.
        commit_cid: its raw CID.
        time: when it happened, RFC 3339.
        since: revision before, or None for the first.
        prev_data: raw CID of the root before; None leaves the field out.
        ops: what was done.
        blocks: CAR with the commit, new records and the nodes that prove the ops.
    """
    payload = {
        "ops": [_op(op) for op in ops],
        "rev": commit.rev,
        "seq": seq,
        "repo": commit.did,
        "time": time,
        "blobs": [],
        "since": since,
        "blocks": blocks,
        "commit": _link(commit_cid),
        "rebase": False,
        "tooBig": False,
    }
    if prev_data is not None:
        payload["prevData"] = _link(prev_data)
    return encode_message("#commit", payload)


def sync_frame(seq: int, did: Did, rev: Tid, *, time: str, blocks: bytes) -> bytes:
    """Returns a `#sync`; `blocks` is a CAR with the commit object alone."""
    payload = {"did": did, "rev": rev, "seq": seq, "time": time, "blocks": blocks}
    return encode_message("#sync", payload)


def identity_frame(seq: int, did: Did, handle: Handle | None, *, time: str) -> bytes:
    """Returns an `#identity`; the handle is left out where it did not change."""
    payload: dict[str, Any] = {"did": did, "seq": seq, "time": time}
    if handle is not None:
        payload["handle"] = handle
    return encode_message("#identity", payload)


def account_frame(seq: int, did: Did, status: str | None, *, time: str) -> bytes:
    """Returns an `#account`; a status makes it inactive."""
    payload: dict[str, Any] = {"did": did, "seq": seq, "time": time, "active": status is None}
    if status is not None:
        payload["status"] = status
    return encode_message("#account", payload)


def _op(op: Op) -> dict[str, Any]:
    fields: dict[str, Any] = {"cid": None if op.cid is None else _link(op.cid), "path": op.path}
    if op.prev is not None:
        fields["prev"] = _link(op.prev)
    fields["action"] = str(op.action)
    return fields


def _link(cid: bytes) -> cbor2.CBORTag:
    return cbor2.CBORTag(_LINK_TAG, b"\x00" + cid)
