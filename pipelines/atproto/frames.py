"""Frames of the event stream: one websocket message → one typed message.

A frame is two concatenated DAG-CBOR items, a header `{op, t}` and a payload. `parse_envelope`
reads what is needed to route a frame, `parse_frame` checks every field. Neither looks inside
`blocks`: `pipelines.atproto.commit` does.

Source: atproto.com/specs/event-stream; atproto.com/specs/sync "Repository Event Stream"; lexicon
com.atproto.sync.subscribeRepos. spec: F-10…F-20, F-40…F-45, G-01, G-02.

Not checked: `time` against any clock, `seq` against its predecessor, deprecated fields
(`rebase tooBig blobs prev`), unknown fields. They are the upstream's claims or of no effect.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from pipelines.atproto import cbor
from pipelines.atproto.cid import is_dag_cbor_cid
from pipelines.atproto.errors import DagCborError, FrameError, ProtocolError, Reason
from pipelines.atproto.syntax import (
    Did,
    Nsid,
    RecordKey,
    Tid,
    parse_datetime,
    parse_did,
    parse_path,
    parse_tid,
)

# "Hard maximum 5 MBytes, as WebSocket frames": atproto.com/specs/sync. spec: F-16
MAX_FRAME_BYTES = 5_000_000
# A commit of 200 ops has about 2,500 values, names and tags. Without a limit a frame of empty maps
# would take 80 times its size of memory, 400 MB. A bound of ours. spec: M-01
MAX_FRAME_ITEMS_COUNT = 65_536
# Lexicon com.atproto.sync.subscribeRepos#commit. spec: F-40
MAX_COMMIT_BLOCKS_BYTES = 2_000_000
MAX_OPS_COUNT = 200
# Lexicon com.atproto.sync.subscribeRepos#sync: the commit block alone. spec: F-41
MAX_SYNC_BLOCKS_BYTES = 10_000
# Lists and maps within each other. The data validation guide recommends 32. spec: A-31
MAX_FIELD_DEPTH = 32
# Sequence numbers fit a JavaScript number. spec: F-20
MAX_SEQ = 2**53 - 1


class Kind(StrEnum):
    """What a frame is, by its header."""

    COMMIT = "commit"
    SYNC = "sync"
    IDENTITY = "identity"
    ACCOUNT = "account"
    INFO = "info"
    ERROR = "error"
    UNKNOWN = "unknown"


class Action(StrEnum):
    """What an op did to the record at its path."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Op(NamedTuple):
    """One operation as the message claims it; the tree has to confirm it.

    Attributes:
        action: what happened.
        path: `collection/rkey`.
        collection: the path's NSID.
        rkey: the path's record key.
        cid: the record's CID afterwards; None for a delete.
        prev: the record's CID before; None for a create.
    """

    action: Action
    path: str
    collection: Nsid
    rkey: RecordKey
    cid: bytes | None
    prev: bytes | None


class CommitMessage(NamedTuple):
    """A `#commit`: a repository changed. Nothing in it is proven yet.

    Attributes:
        seq: position in the upstream's stream.
        did: the repository.
        time: the upstream's clock, RFC 3339.
        rev: revision of the commit.
        since: claimed previous revision, or None for a first commit.
        commit_cid: claimed CID of the signed commit.
        prev_data: claimed MST root of the previous commit; None where the field is absent.
        ops: claimed operations, at most `MAX_OPS_COUNT`.
        blocks: a CAR with the commit, new records and the nodes that inversion needs.
    """

    seq: int
    did: Did
    time: str
    rev: Tid
    since: Tid | None
    commit_cid: bytes
    prev_data: bytes | None
    ops: tuple[Op, ...]
    blocks: bytes

    @property
    def kind(self) -> Kind:
        """What the message is."""
        return Kind.COMMIT


class SyncMessage(NamedTuple):
    """A `#sync`: the current state of a repository, without its contents.

    Attributes:
        seq: position in the upstream's stream.
        did: the repository.
        time: the upstream's clock, RFC 3339.
        rev: claimed revision.
        blocks: a CAR with the signed commit.
    """

    seq: int
    did: Did
    time: str
    rev: Tid
    blocks: bytes

    @property
    def kind(self) -> Kind:
        """What the message is."""
        return Kind.SYNC


class IdentityMessage(NamedTuple):
    """An `#identity`: a hint that the DID document changed.

    Attributes:
        seq: position in the upstream's stream.
        did: the account.
        time: the upstream's clock, RFC 3339.
        handle: the claimed handle, unverified, or None.
    """

    seq: int
    did: Did
    time: str
    handle: str | None

    @property
    def kind(self) -> Kind:
        """What the message is."""
        return Kind.IDENTITY


class AccountMessage(NamedTuple):
    """An `#account`: the hosting status at the emitting host.

    Attributes:
        seq: position in the upstream's stream.
        did: the account.
        time: the upstream's clock, RFC 3339.
        active: whether the repository may be shown.
        status: why not, an open set (`deleted`, `deactivated`, `takendown`, …), or None.
    """

    seq: int
    did: Did
    time: str
    active: bool
    status: str | None

    @property
    def kind(self) -> Kind:
        """What the message is."""
        return Kind.ACCOUNT


class InfoMessage(NamedTuple):
    """An `#info` from the upstream about the connection; it has no sequence number."""

    name: str
    text: str | None

    @property
    def kind(self) -> Kind:
        """What the message is."""
        return Kind.INFO


class ErrorMessage(NamedTuple):
    """An error frame; the upstream closes the connection after it."""

    name: str
    text: str | None

    @property
    def kind(self) -> Kind:
        """What the message is."""
        return Kind.ERROR


class UnknownMessage(NamedTuple):
    """A type we do not know, to be skipped (spec: F-12, F-45).

    Attributes:
        type_name: the header's `t`, or its `op` where that is unknown.
        seq: position in the stream, where the payload has a usable one.
        did: the account, where the payload has a usable one.
    """

    type_name: str
    seq: int | None
    did: Did | None

    @property
    def kind(self) -> Kind:
        """What the message is."""
        return Kind.UNKNOWN


Message: TypeAlias = (
    CommitMessage
    | SyncMessage
    | IdentityMessage
    | AccountMessage
    | InfoMessage
    | ErrorMessage
    | UnknownMessage
)


class Envelope(NamedTuple):
    """What is needed to route a frame.

    Attributes:
        kind: by the header.
        seq: position in the stream; None for info and error frames, and for unknown types
            without one.
        did: the account; None likewise.
        time: the upstream's clock as it stands there; None likewise. Not checked.
        payload: the decoded payload.
        type_name: the header's `t` (or its `op`, if that is unknown).
    """

    kind: Kind
    seq: int | None
    did: Did | None
    time: str | None
    payload: Mapping[str, Any]
    type_name: str


_KIND_BY_TYPE = {
    "#commit": Kind.COMMIT,
    "#sync": Kind.SYNC,
    "#identity": Kind.IDENTITY,
    "#account": Kind.ACCOUNT,
    "#info": Kind.INFO,
}
_ACTIONS = {action.value: action for action in Action}
# Looking up a member of an enumeration takes ten times as long as looking up a global.
_CREATE, _UPDATE, _DELETE = Action.CREATE, Action.UPDATE, Action.DELETE
_COMMIT, _INFO = Kind.COMMIT, Kind.INFO
_CONTAINERS = frozenset({dict, list})


def parse_envelope(frame: bytes) -> Envelope:
    """Reads the header, and from the payload who and when.

    Args:
        frame: one binary websocket message.

    Raises:
        FrameError: too large, not two canonical items, a bad header, or a commit, sync, identity
            or account without a valid `seq` and DID.
    """
    if len(frame) > MAX_FRAME_ITEMS_COUNT:  # most are smaller: no more items than bytes
        _check_size(frame)
    try:
        items = cbor.decode_sequence(frame)
    except DagCborError as error:
        raise FrameError(Reason.FRAME_NOT_CBOR, error.detail) from None
    if len(items) != 2:
        raise FrameError(Reason.FRAME_HEADER, f"{len(items)} items instead of two")
    header, payload = items
    if not isinstance(header, dict) or not isinstance(payload, dict):
        raise FrameError(Reason.FRAME_HEADER, "header and payload must be maps")
    _check_depth(items)
    op, type_name = header.get("op"), header.get("t")
    if type(op) is not int:
        raise FrameError(Reason.FRAME_HEADER, "op is not an integer")
    if op == -1:
        return Envelope(Kind.ERROR, None, None, None, payload, "error")
    if op != 1:
        return _unknown(str(op), payload)
    if not isinstance(type_name, str):
        raise FrameError(Reason.FRAME_HEADER, "a message without a type")
    kind = _KIND_BY_TYPE.get(type_name)
    if kind is None:
        return _unknown(type_name, payload)
    if kind is _INFO:
        return Envelope(kind, None, None, None, payload, type_name)
    seq = payload.get("seq")
    if type(seq) is not int or not 0 < seq <= MAX_SEQ:
        raise FrameError(Reason.FRAME_FIELD, f"seq {_shown(seq)}")
    try:
        did = parse_did(payload.get("repo" if kind is _COMMIT else "did"))
    except ProtocolError as error:
        raise FrameError(Reason.FRAME_FIELD, error.detail) from None
    time = payload.get("time")
    return Envelope(kind, seq, did, time if isinstance(time, str) else None, payload, type_name)


def parse_frame(frame: bytes) -> Message:
    """Decodes a frame and checks the syntax of every field it uses.

    Args:
        frame: one binary websocket message.

    Raises:
        FrameError: as `parse_envelope`, or a field is missing, of the wrong type or syntax, or
            over its limit; `did` and `rev` are set as far as they were readable.
    """
    return parse_message(parse_envelope(frame))


def parse_message(envelope: Envelope) -> Message:
    """Checks the fields of a frame whose envelope was read; see `parse_frame`."""
    payload = envelope.payload
    if envelope.seq is None or envelope.did is None:
        if envelope.kind is Kind.INFO:
            return InfoMessage(_text(payload, "name") or "", _text(payload, "message"))
        if envelope.kind is Kind.ERROR:
            return ErrorMessage(_text(payload, "error") or "", _text(payload, "message"))
        return UnknownMessage(envelope.type_name, envelope.seq, envelope.did)
    parse = _PARSERS.get(envelope.kind)
    if parse is None:
        return UnknownMessage(envelope.type_name, envelope.seq, envelope.did)
    try:
        return parse(envelope.seq, envelope.did, payload)
    except FrameError:
        raise
    except ProtocolError as error:
        rev = _text(payload, "rev")
        raise FrameError(
            Reason.FRAME_FIELD, error.detail, did=envelope.did, rev=rev, path=error.path
        ) from None


def _check_size(frame: bytes) -> None:
    if len(frame) > MAX_FRAME_BYTES:
        raise FrameError(Reason.FRAME_TOO_LARGE, f"{len(frame)} bytes")
    if cbor.count_items(frame, MAX_FRAME_ITEMS_COUNT) > MAX_FRAME_ITEMS_COUNT:
        raise FrameError(Reason.FRAME_TOO_LARGE, f"more than {MAX_FRAME_ITEMS_COUNT} items")


def _check_depth(items: list[Any]) -> None:
    """Bounds the depth of every field, whether anybody reads it or not.

    The codec stops at a depth that depends on the Python stack below the call; without a limit of
    our own the same frame could pass in one place and fail in another.
    """
    level = items
    for _ in range(MAX_FIELD_DEPTH + 1):
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) in _CONTAINERS
        ]
        if not level:
            return
    raise FrameError(Reason.FRAME_NOT_CBOR, f"a field nested deeper than {MAX_FIELD_DEPTH}")


def _unknown(type_name: str, payload: Mapping[str, Any]) -> Envelope:
    seq = payload.get("seq")
    if type(seq) is not int or not 0 < seq <= MAX_SEQ:
        seq = None
    try:
        did = parse_did(payload.get("did"))
    except ProtocolError:
        did = None
    return Envelope(Kind.UNKNOWN, seq, did, _text(payload, "time"), payload, type_name)


def _parse_commit(seq: int, did: Did, payload: Mapping[str, Any]) -> CommitMessage:
    rev = parse_tid(payload.get("rev"))
    if "since" not in payload:
        raise FrameError(Reason.FRAME_FIELD, "since is missing", did=did, rev=rev)
    since = payload["since"]
    commit_cid = payload.get("commit")
    prev_data = payload.get("prevData")
    blocks = payload.get("blocks")
    ops = payload.get("ops")
    if not is_dag_cbor_cid(commit_cid):
        raise FrameError(Reason.FRAME_FIELD, "commit is not a CID", did=did, rev=rev)
    if prev_data is not None and not is_dag_cbor_cid(prev_data):
        raise FrameError(Reason.FRAME_FIELD, "prevData is not a CID", did=did, rev=rev)
    if not isinstance(blocks, bytes) or not 0 < len(blocks) <= MAX_COMMIT_BLOCKS_BYTES:
        raise FrameError(Reason.FRAME_BLOCKS_SIZE, _size(blocks), did=did, rev=rev)
    if not isinstance(ops, list):
        raise FrameError(Reason.FRAME_FIELD, "ops is not a list", did=did, rev=rev)
    if len(ops) > MAX_OPS_COUNT:
        raise FrameError(Reason.FRAME_TOO_MANY_OPS, f"{len(ops)} ops", did=did, rev=rev)
    time = _time(payload)
    if since is not None:
        since = parse_tid(since)
    parsed_ops = tuple([_parse_op(op, did, rev) for op in ops])
    return CommitMessage(seq, did, time, rev, since, commit_cid, prev_data, parsed_ops, blocks)


def _parse_op(op: object, did: Did, rev: Tid) -> Op:
    if type(op) is not dict:
        raise FrameError(Reason.FRAME_OP, "an op is not a map", did=did, rev=rev)
    path = op.get("path")
    collection, rkey = parse_path(path)
    name = op.get("action")
    action = _ACTIONS.get(name) if isinstance(name, str) else None
    cid = op.get("cid")
    prev = op.get("prev")
    # Each action has exactly one pattern of CIDs; everything else is refused here, so that no
    # later code needs a branch for "the remaining kind".
    if action is _CREATE:
        fits = is_dag_cbor_cid(cid) and prev is None
    elif action is _UPDATE:
        fits = is_dag_cbor_cid(cid) and is_dag_cbor_cid(prev)
    elif action is _DELETE:
        fits = "cid" in op and cid is None and is_dag_cbor_cid(prev)
    else:
        raise FrameError(Reason.FRAME_OP, f"action {_shown(name)}", did=did, rev=rev, path=path)
    if not fits:
        detail = f"{action} with cid {_presence(cid)} and prev {_presence(prev)}"
        raise FrameError(Reason.FRAME_OP, detail, did=did, rev=rev, path=path)
    assert isinstance(path, str)
    return Op(action, path, collection, rkey, cid, prev)


def _parse_sync(seq: int, did: Did, payload: Mapping[str, Any]) -> SyncMessage:
    rev = parse_tid(payload.get("rev"))
    blocks = payload.get("blocks")
    if not isinstance(blocks, bytes) or not 0 < len(blocks) <= MAX_SYNC_BLOCKS_BYTES:
        raise FrameError(Reason.FRAME_BLOCKS_SIZE, _size(blocks), did=did, rev=rev)
    return SyncMessage(seq, did, _time(payload), rev, blocks)


def _parse_identity(seq: int, did: Did, payload: Mapping[str, Any]) -> IdentityMessage:
    time = _time(payload)
    return IdentityMessage(seq, did, time, _text(payload, "handle"))


def _parse_account(seq: int, did: Did, payload: Mapping[str, Any]) -> AccountMessage:
    active = payload.get("active")
    if not isinstance(active, bool):
        raise FrameError(Reason.FRAME_FIELD, "active is not a boolean", did=did)
    time = _time(payload)
    return AccountMessage(seq, did, time, active, _text(payload, "status"))


_PARSERS: dict[Kind, Callable[[int, Did, Mapping[str, Any]], Message]] = {
    Kind.COMMIT: _parse_commit,
    Kind.SYNC: _parse_sync,
    Kind.IDENTITY: _parse_identity,
    Kind.ACCOUNT: _parse_account,
}


def _time(payload: Mapping[str, Any]) -> str:
    time = payload.get("time")
    parse_datetime(time)
    assert isinstance(time, str)
    return time


def _text(payload: Mapping[str, Any], name: str) -> str | None:
    value = payload.get(name)
    return value if isinstance(value, str) else None


def _shown(value: object) -> str:
    # Scalars only: describing a deep list or map can exceed the interpreter's recursion limit.
    return f"{value!r:.40}" if isinstance(value, int | str) else f"of type {type(value).__name__}"


def _size(blocks: object) -> str:
    return f"blocks of {len(blocks)} bytes" if isinstance(blocks, bytes) else "blocks are no bytes"


def _presence(value: object) -> str:
    return "absent" if value is None else "present" if is_dag_cbor_cid(value) else "malformed"
