"""Frames: every message type, and what is wrong with the ones that are refused."""

from typing import Any

import pytest
from support.oracle import cid_of, dag_cbor, link
from support.repo import DID, make_step, op_fields, refusal
from support.wire import START_TIME, frame, rev

from pipelines.atproto import frames
from pipelines.atproto.errors import FrameError, Reason
from pipelines.atproto.frames import Action, Kind

_STEP = make_step()
_DELETE, _UPDATE, _CREATE = (op_fields(op) for op in _STEP.ops)
_CID = link(cid_of(b""))
_BLOB = link(b"\x01\x55\x12\x20" + cid_of(b"")[4:])
_SYNC = {"seq": 2, "did": DID, "rev": rev(0), "blocks": b"x", "time": START_TIME}
_IDENTITY = {"seq": 3, "did": DID, "time": START_TIME}
_ACCOUNT = {"seq": 4, "did": DID, "time": START_TIME, "active": True}


def _raw(header: Any, payload: Any) -> bytes:
    return dag_cbor(header) + dag_cbor(payload)


def _refusal(raw: bytes) -> FrameError:
    error = refusal(lambda: frames.parse_frame(raw))
    assert isinstance(error, FrameError)
    return error


def test_a_commit_has_every_field() -> None:
    """Spec: F-40."""
    message = _STEP.message(seq=7)
    assert message.kind is Kind.COMMIT
    assert (message.seq, message.did, message.time) == (7, DID, START_TIME)
    assert (message.rev, message.since) == (_STEP.rev, _STEP.since)
    assert message.commit_cid == cid_of(_STEP.commit)
    assert message.prev_data == _STEP.before.root
    assert message.blocks == _STEP.car
    assert message.ops == _STEP.ops
    assert [op.action for op in message.ops] == [Action.DELETE, Action.UPDATE, Action.CREATE]
    assert (message.ops[0].collection, message.ops[0].rkey) == ("com.example.note", "0003")


def test_a_first_commit_has_no_predecessor() -> None:
    """Spec: F-40: since null, prevData absent or null."""
    for absent in (..., None):
        message = _STEP.message(since=None, prevData=absent)
        assert (message.since, message.prev_data) == (None, None)


def test_a_sync_has_every_field() -> None:
    """Spec: F-41."""
    message = frames.parse_frame(frame("#sync", _SYNC))
    assert message == frames.SyncMessage(2, DID, START_TIME, rev(0), b"x")  # type: ignore[arg-type]  # rev is a Tid as it stands
    assert message.kind is Kind.SYNC


@pytest.mark.parametrize("handle", [None, "alice.test"])
def test_an_identity_may_have_a_handle(handle: str | None) -> None:
    """Spec: F-42."""
    message = frames.parse_frame(frame("#identity", _IDENTITY | {"handle": handle}))
    assert message == frames.IdentityMessage(3, DID, START_TIME, handle)
    assert message.kind is Kind.IDENTITY


@pytest.mark.parametrize("status", [None, "takendown", "a status of tomorrow"])
def test_an_account_may_have_any_status(status: str | None) -> None:
    """Spec: F-43, H-01."""
    message = frames.parse_frame(frame("#account", _ACCOUNT | {"active": False, "status": status}))
    assert message == frames.AccountMessage(4, DID, START_TIME, active=False, status=status)
    assert message.kind is Kind.ACCOUNT


def test_info_and_error_frames_concern_no_account() -> None:
    """Spec: F-11, F-14, F-44."""
    info = frames.parse_frame(frame("#info", {"name": "OutdatedCursor"}))
    assert info == frames.InfoMessage("OutdatedCursor", None)
    error = frames.parse_frame(_raw({"op": -1}, {"error": "FutureCursor", "message": "no"}))
    assert error == frames.ErrorMessage("FutureCursor", "no")
    assert [info.kind, error.kind] == [Kind.INFO, Kind.ERROR]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ({"op": 1, "t": "#handle"}, "#handle"),
        ({"op": 1, "t": "com.example.other#thing"}, "com.example.other#thing"),
        ({"op": 2, "t": "#commit"}, "2"),
        ({"op": 0}, "0"),
        ({"op": -2}, "-2"),
    ],
)
def test_what_is_not_known_is_passed_over(header: Any, name: str) -> None:
    """Spec: F-12, F-45."""
    assert frames.parse_frame(_raw(header, {})) == frames.UnknownMessage(name, None, None)
    payload = {"seq": 9, "did": DID}
    assert frames.parse_frame(_raw(header, payload)) == frames.UnknownMessage(name, 9, DID)


@pytest.mark.parametrize("payload", [{"seq": "9", "did": "no"}, {"seq": True}, {"seq": -1}])
def test_an_unknown_type_with_odd_fields_is_passed_over_as_well(payload: Any) -> None:
    raw = _raw({"op": 1, "t": "#other"}, payload)
    assert frames.parse_frame(raw) == frames.UnknownMessage("#other", None, None)


def test_unknown_fields_are_ignored() -> None:
    """Spec: F-11, F-15."""
    raw = _raw({"op": 1, "t": "#commit", "x": 1}, _STEP.payload(x=[{"y": 1}], prev=None))
    assert frames.parse_frame(raw) == _STEP.message()


@pytest.mark.parametrize("name", ["future", "ops", "blobs"])
@pytest.mark.parametrize("extra", [1, 200, 880])
def test_a_field_is_refused_from_one_depth_on(name: str, extra: int) -> None:
    """Spec: A-31. Without a limit of ours it would depend on the Python stack below the call.

    An identity has no `ops`: a field that one type of message uses is ignored in another.
    """
    frames.parse_frame(_nested_field(name, frames.MAX_FIELD_DEPTH))
    raw = _nested_field(name, frames.MAX_FIELD_DEPTH + extra)
    assert _refusal(raw).reason is Reason.FRAME_NOT_CBOR


def test_a_header_and_an_op_have_the_same_limit() -> None:
    deep: Any = 1
    for _ in range(frames.MAX_FIELD_DEPTH + 1):
        deep = [deep]
    ops = [_CREATE | {"future": deep}]
    for raw in (
        _raw({"op": 1, "t": "#identity", "time": deep}, _IDENTITY),
        _raw({"op": 1, "t": "#commit"}, _STEP.payload(ops=ops)),
    ):
        assert _refusal(raw).reason is Reason.FRAME_NOT_CBOR


def _nested_field(name: str, depth: int) -> bytes:
    """An identity frame with a field nested so deep that cbor2 would not write it."""
    whole = frame("#identity", _IDENTITY | {name: []})
    empty = b"\x80"
    before, after = whole.rsplit(name.encode() + empty, 1)
    return before + name.encode() + b"\x81" * (depth - 1) + empty + after


def test_deprecated_fields_are_ignored() -> None:
    """Spec: F-40: what they say, and whether they are there."""
    for value in (True, None, ...):
        assert _STEP.message(rebase=value, tooBig=value, blobs=value) == _STEP.message()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xa0", id="one item"),
        pytest.param(_STEP.frame() + b"\xa0", id="three items"),
        pytest.param(_raw([], {}), id="header not a map"),
        pytest.param(_raw({"op": 1, "t": "#commit"}, []), id="payload not a map"),
        pytest.param(_raw({}, {}), id="no op"),
        pytest.param(_raw({"op": True, "t": "#commit"}, {}), id="op true"),
        pytest.param(_raw({"op": "1", "t": "#commit"}, {}), id="op as text"),
        pytest.param(_raw({"op": 1}, {}), id="no type"),
        pytest.param(_raw({"op": 1, "t": 1}, {}), id="type not text"),
        pytest.param(_raw({"op": 1, "t": None}, {}), id="type null"),
    ],
)
def test_a_bad_header_is_refused(raw: bytes) -> None:
    """Spec: F-10, F-11, F-13."""
    assert _refusal(raw).reason is Reason.FRAME_HEADER


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xff", id="no CBOR"),
        pytest.param(_STEP.frame()[:-1], id="truncated"),
        pytest.param(b"\xa2\x62op\x01\x61t\x67#commit\xa0", id="unsorted"),
        pytest.param(b"\xa2\x61t\x67#commit\x62op\x18\x01\xa0", id="long integer"),
        pytest.param(b'{"op":1,"t":"#commit"}', id="JSON"),
    ],
)
def test_a_frame_is_canonical(raw: bytes) -> None:
    """Spec: F-10, F-13."""
    assert _refusal(raw).reason is Reason.FRAME_NOT_CBOR


def test_the_largest_frame_is_read_and_a_larger_one_refused() -> None:
    """Spec: F-16, G-01."""
    info = frame("#info", {"name": "", "x": b""})
    filler = bytes(frames.MAX_FRAME_BYTES - len(info) - 4)
    largest = frame("#info", {"name": "", "x": filler})
    assert len(largest) == frames.MAX_FRAME_BYTES
    assert frames.parse_frame(largest) == frames.InfoMessage("", None)
    assert _refusal(largest + b"\x00").reason is Reason.FRAME_TOO_LARGE


def test_a_frame_has_so_many_items_at_most() -> None:
    """Spec: M-01: ten stand around the list."""
    count = frames.MAX_FRAME_ITEMS_COUNT - 10
    assert frames.parse_frame(frame("#info", {"name": "", "x": [0] * count})).kind == "info"
    refusal = _refusal(frame("#info", {"name": "", "x": [0] * (count + 1)}))
    assert refusal.reason is Reason.FRAME_TOO_LARGE


@pytest.mark.parametrize(
    "seq",
    [..., None, 0, -1, 2**53, 2**63, True, "1", [1]],
    ids=["absent", "null", "0", "-1", "2^53", "2^63", "true", "text", "list"],
)
@pytest.mark.parametrize(
    ("type_name", "payload"),
    [
        ("#commit", _STEP.payload()),
        ("#sync", _SYNC),
        ("#identity", _IDENTITY),
        ("#account", _ACCOUNT),
    ],
)
def test_a_sequence_number_is_positive_and_below_2_to_53(
    type_name: str, payload: dict[str, Any], seq: Any
) -> None:
    """Spec: F-20."""
    payload = payload | {"seq": seq}
    if seq is ...:
        del payload["seq"]
    assert _refusal(frame(type_name, payload)).reason is Reason.FRAME_FIELD


def test_sequence_numbers_beyond_32_bits_are_kept() -> None:
    assert _STEP.message(seq=2**53 - 1).seq == 2**53 - 1


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"repo": ...}, id="no repo"),
        pytest.param({"repo": "did:"}, id="repo not a DID"),
        pytest.param({"rev": ...}, id="no rev"),
        pytest.param({"rev": "1"}, id="rev not a TID"),
        pytest.param({"since": ...}, id="no since"),
        pytest.param({"since": "1"}, id="since not a TID"),
        pytest.param({"since": 1}, id="since not text"),
        pytest.param({"time": ...}, id="no time"),
        pytest.param({"time": "today"}, id="time not a time"),
        pytest.param({"commit": ...}, id="no commit"),
        pytest.param({"commit": None}, id="commit null"),
        pytest.param({"commit": _BLOB}, id="commit a blob"),
        pytest.param({"prevData": _BLOB}, id="prevData a blob"),
        pytest.param({"prevData": "text"}, id="prevData text"),
        pytest.param({"ops": ...}, id="no ops"),
        pytest.param({"ops": None}, id="ops null"),
        pytest.param({"ops": {}}, id="ops a map"),
    ],
)
def test_a_commit_with_a_bad_field_is_refused(changes: dict[str, Any]) -> None:
    """Spec: F-40, G-02."""
    assert _refusal(_STEP.frame(**changes)).reason is Reason.FRAME_FIELD


@pytest.mark.parametrize("field", ["commit", "prevData"])
def test_a_byte_string_is_no_link(field: str) -> None:
    """Spec: A-41: the codec shows both alike, the comparison of bytes tells them apart."""
    assert _refusal(_STEP.frame(**{field: cid_of(b"")})).reason is Reason.FRAME_NOT_CBOR


@pytest.mark.parametrize(
    "op",
    [
        pytest.param(None, id="null"),
        pytest.param([], id="list"),
        pytest.param(_CREATE | {"action": "upsert"}, id="unknown action"),
        pytest.param(_CREATE | {"action": "CREATE"}, id="action in capitals"),
        pytest.param(_CREATE | {"action": None}, id="action null"),
        pytest.param(_CREATE | {"action": ["create"]}, id="action a list"),
        pytest.param({"path": "com.example.note/1", "cid": _CID}, id="no action"),
        pytest.param(_CREATE | {"cid": None}, id="create without cid"),
        pytest.param(_CREATE | {"prev": _CID}, id="create with prev"),
        pytest.param(_CREATE | {"cid": _BLOB}, id="create of a blob"),
        pytest.param(_UPDATE | {"cid": None}, id="update without cid"),
        pytest.param(_UPDATE | {"prev": None}, id="update without prev"),
        pytest.param(_UPDATE | {"prev": "text"}, id="update with prev text"),
        pytest.param(_DELETE | {"cid": _CID}, id="delete with cid"),
        pytest.param(_DELETE | {"prev": None}, id="delete without prev"),
        pytest.param({k: v for k, v in _DELETE.items() if k != "cid"}, id="delete, cid absent"),
    ],
)
def test_an_op_has_the_cids_of_its_action(op: Any) -> None:
    """Spec: F-40, G-02."""
    assert _refusal(_STEP.frame(ops=[op])).reason is Reason.FRAME_OP


def test_a_null_prev_is_an_absent_one() -> None:
    assert _STEP.message(ops=[_CREATE | {"prev": None}]).ops[0].prev is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "com.example.note",
        "/1",
        "com.example.note/",
        "com.example.note/a/b",
        "note/1",
        "com.example.note/..",
        None,
        1,
    ],
)
def test_a_path_is_a_collection_and_a_key(path: Any) -> None:
    """Spec: B-20, G-02."""
    assert _refusal(_STEP.frame(ops=[_CREATE | {"path": path}])).reason is Reason.FRAME_FIELD


def test_a_commit_has_at_most_200_ops() -> None:
    """Spec: F-40, G-01."""
    most = [_CREATE | {"path": f"com.example.note/{n}"} for n in range(frames.MAX_OPS_COUNT)]
    assert len(_STEP.message(ops=most).ops) == frames.MAX_OPS_COUNT
    error = _refusal(_STEP.frame(ops=[*most, _CREATE]))
    assert error.reason is Reason.FRAME_TOO_MANY_OPS


@pytest.mark.parametrize(
    ("type_name", "payload", "limit"),
    [
        ("#commit", _STEP.payload(), frames.MAX_COMMIT_BLOCKS_BYTES),
        ("#sync", _SYNC, frames.MAX_SYNC_BLOCKS_BYTES),
    ],
)
def test_blocks_have_bounds(type_name: str, payload: dict[str, Any], limit: int) -> None:
    """Spec: F-40, F-41, G-01."""
    largest = frames.parse_frame(frame(type_name, payload | {"blocks": bytes(limit)}))
    assert isinstance(largest, frames.CommitMessage | frames.SyncMessage)
    assert len(largest.blocks) == limit
    for blocks in (bytes(limit + 1), b"", None, "text"):
        error = _refusal(frame(type_name, payload | {"blocks": blocks}))
        assert error.reason is Reason.FRAME_BLOCKS_SIZE


@pytest.mark.parametrize(
    ("type_name", "payload", "changes"),
    [
        ("#sync", _SYNC, {"did": None}),
        ("#sync", _SYNC, {"rev": None}),
        ("#sync", _SYNC, {"time": None}),
        ("#identity", _IDENTITY, {"did": "alice.test"}),
        ("#identity", _IDENTITY, {"time": 1}),
        ("#account", _ACCOUNT, {"did": None}),
        ("#account", _ACCOUNT, {"time": ""}),
        ("#account", _ACCOUNT, {"active": None}),
        ("#account", _ACCOUNT, {"active": 1}),
        ("#account", _ACCOUNT, {"active": "true"}),
    ],
)
def test_other_messages_with_a_bad_field_are_refused(
    type_name: str, payload: dict[str, Any], changes: dict[str, Any]
) -> None:
    """Spec: F-41 to F-43."""
    assert _refusal(frame(type_name, payload | changes)).reason is Reason.FRAME_FIELD


def test_a_refusal_says_which_repository_revision_and_path() -> None:
    error = _refusal(_STEP.frame(ops=[_CREATE | {"action": "upsert"}]))
    assert (error.did, error.rev, error.path) == (DID, _STEP.rev, _CREATE["path"])
    error = _refusal(_STEP.frame(time="today"))
    assert (error.did, error.rev) == (DID, _STEP.rev)


def test_an_envelope_is_what_routing_needs() -> None:
    envelope = frames.parse_envelope(_STEP.frame(ops=None, time=1))
    assert (envelope.kind, envelope.seq, envelope.did) == (Kind.COMMIT, 1, DID)
    assert envelope.time is None
    assert envelope.type_name == "#commit"
    assert frames.parse_envelope(_STEP.frame()).time == START_TIME


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": "HERE"},
        {"ops": [_CREATE | {"action": "HERE"}]},
        {"rev": "HERE"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_no_depth_of_a_field_breaks_the_refusal(changes: dict[str, Any]) -> None:
    """Spec: M-01: what is just shallow enough to be decoded must not hurt whoever describes it."""
    raw = _STEP.frame(**changes)
    for depth in range(700, 1_010):
        error = _refusal(raw.replace(b"\x64HERE", b"\x81" * depth + b"\x00"))
        assert len(error.detail) < 200
