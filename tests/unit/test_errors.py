"""The error family: stable reasons, one input for each, and nothing lost on the way."""

import copy
import pickle
import re
from collections.abc import Callable

import pytest
from support import oracle, plc, trees, wire
from support.repo import (
    DID,
    OTHER_DID,
    OTHER_SIGNER,
    P256_SIGNER,
    SIGNER,
    Repo,
    commit_fields,
    make_step,
    op_fields,
    record,
    refusal,
    sign_commit,
)

from pipelines.atproto import (
    atjson,
    car,
    cbor,
    cid,
    commit,
    errors,
    frames,
    keys,
    repo,
    strings,
    syntax,
)
from pipelines.atproto.errors import ProtocolError, Reason
from pipelines.atproto.frames import MAX_COMMIT_BLOCKS_BYTES, MAX_FRAME_BYTES, MAX_OPS_COUNT
from pipelines.atproto.mst import EMPTY_ROOT_CID, MAX_NODE_ENTRIES_COUNT, root_of
from pipelines.identity.operation import MAX_OPERATION_BYTES, parse_operation
from pipelines.identity.plc import verify_audit_log

_CLASSES = (
    errors.FrameError,
    errors.IdentifierError,
    errors.DagCborError,
    errors.CidError,
    errors.CarError,
    errors.KeyFormatError,
    errors.SignatureError,
    errors.MstError,
    errors.CommitError,
    errors.IdentityError,
    errors.PlcError,
    errors.MessageError,
)

_STEP = make_step()
_DELETE, _UPDATE, _CREATE = _STEP.ops
_BLOCK = oracle.dag_cbor(record("a block"))
_CID = oracle.cid_of(_BLOCK)
_SECTION = wire.car_section(_CID, _BLOCK)
_HEADER = wire.car_header([_CID])


def _parse_payload(**changes: object) -> object:
    return frames.parse_frame(_STEP.frame(**changes))


def _verify(**changes: object) -> object:
    return commit.verify_commit(_STEP.message(**changes), SIGNER.key)


def _open(**changes: object) -> object:
    block = sign_commit(commit_fields(EMPTY_ROOT_CID, **changes))
    return commit.open_commit(DID, wire.car(oracle.cid_of(block), [block]))


def _verify_signature(signature: bytes) -> None:
    SIGNER.key.verify(b"message", signature)


def _large_record() -> object:
    step = Repo().apply({"com.example.note/1": record("x" * commit.MAX_RECORD_BYTES)})
    return commit.verify_commit(step.message(), SIGNER.key)


def _without_record() -> object:
    blocks = [block for key, block in _STEP.blocks.items() if key != _CREATE.cid]
    return _verify(blocks=wire.car(oracle.cid_of(_STEP.commit), blocks))


def _without_node() -> object:
    needed = next(iter(_STEP.needed_nodes))
    blocks = [block for key, block in _STEP.blocks.items() if key != needed]
    return _verify(blocks=wire.car(oracle.cid_of(_STEP.commit), blocks))


def _recurring_node() -> object:
    child = trees.node([trees.INNER_BEFORE])
    root = trees.node([trees.TOP], oracle.cid_of(child), oracle.cid_of(child))
    return trees.look_at(root, child, paths=(trees.INNER_BEFORE, trees.INNER_AFTER))


def _node_out_of_range() -> object:
    child = trees.node([trees.INNER_BEFORE])
    root = trees.node([trees.TOP], None, oracle.cid_of(child))
    return trees.look_at(root, child, paths=(trees.INNER_AFTER,))


def _prefix_beyond_the_key() -> object:
    entry = {"k": b"x", "p": 1, "t": None, "v": oracle.link(_CID)}
    root = oracle.dag_cbor({"e": [entry], "l": None})
    return trees.look_at(root, paths=(trees.LEAF_BEFORE,))


_FIRST = plc.operation()
_STOLEN = plc.operation(_FIRST, P256_SIGNER)
_TOMBSTONE = plc.tombstone(_FIRST)


def _verify_log(*operations: plc.Json, first: plc.Json = _FIRST) -> object:
    did = plc.did_of(first)
    log = [plc.entry(hour, signed, did) for hour, signed in enumerate(operations)]
    return verify_audit_log(did, log)


def _verify_late_recovery() -> object:
    did = plc.did_of(_FIRST)
    log = [plc.entry(0, _FIRST, did), plc.entry(0, _STOLEN, did)]
    return verify_audit_log(did, [*log, plc.entry(73, plc.operation(_FIRST), did)])


def _verify_early_recovery() -> object:
    did = plc.did_of(_FIRST)
    log = [plc.entry(1, _FIRST, did), plc.entry(1, _STOLEN, did)]
    return verify_audit_log(did, [*log, plc.entry(1, plc.operation(_FIRST), did)])


# The smallest input that is refused for each reason. Those of `identity` are raised, and tested,
# in pipelines.identity.
_REFUSALS: dict[Reason, Callable[[], object]] = {
    Reason.FRAME_TOO_LARGE: lambda: frames.parse_frame(bytes(MAX_FRAME_BYTES + 1)),
    Reason.FRAME_NOT_CBOR: lambda: frames.parse_frame(b"\xff"),
    Reason.FRAME_HEADER: lambda: frames.parse_frame(b""),
    Reason.FRAME_FIELD: lambda: _parse_payload(seq=0),
    Reason.FRAME_TOO_MANY_OPS: lambda: _parse_payload(ops=[None] * (MAX_OPS_COUNT + 1)),
    Reason.FRAME_BLOCKS_SIZE: lambda: _parse_payload(blocks=bytes(MAX_COMMIT_BLOCKS_BYTES + 1)),
    Reason.FRAME_OP: lambda: _parse_payload(ops=[{**op_fields(_CREATE), "action": "upsert"}]),
    Reason.SYNTAX_DID: lambda: syntax.parse_did("did:"),
    Reason.SYNTAX_HANDLE: lambda: syntax.parse_handle("localhost"),
    Reason.SYNTAX_NSID: lambda: syntax.parse_nsid("com.example"),
    Reason.SYNTAX_RECORD_KEY: lambda: syntax.parse_record_key(".."),
    Reason.SYNTAX_TID: lambda: syntax.parse_tid("3jzfcijpj2z2"),
    Reason.SYNTAX_PATH: lambda: syntax.parse_path("com.example.note/"),
    Reason.SYNTAX_AT_URI: lambda: syntax.parse_at_uri(f"at://{DID}/"),
    Reason.SYNTAX_DATETIME: lambda: syntax.parse_datetime("2026-01-01"),
    Reason.SYNTAX_URI: lambda: strings.parse_uri("example.com"),
    Reason.SYNTAX_LANGUAGE: lambda: strings.parse_language("JA"),
    Reason.SYNTAX_CID: lambda: strings.parse_cid_text("Qm" + "a" * 44),
    Reason.CBOR_INVALID: lambda: cbor.decode(b""),
    Reason.CBOR_NOT_CANONICAL: lambda: cbor.decode(b"\x18\x00"),
    Reason.CBOR_DEPTH: lambda: atjson.to_json(b"\xa1\x61a" * 129 + b"\x00"),
    Reason.CBOR_DATA_MODEL: lambda: atjson.to_json(b"\x00"),
    Reason.JSON_INVALID: lambda: atjson.from_json(b"{"),
    Reason.JSON_AMBIGUOUS: lambda: atjson.to_json(oracle.dag_cbor({"$link": "text"})),
    Reason.JSON_TOO_LARGE: lambda: atjson.to_json(
        oracle.dag_cbor({"a": "\0" * (atjson.MAX_JSON_BYTES // 6)})
    ),
    Reason.CID_INVALID: lambda: cid.parse_cid("bafyrei"),
    Reason.CID_UNSUPPORTED: lambda: car.read_car(
        _HEADER + wire.car_section(b"\x01\x70" + _CID[2:], _BLOCK)
    ),
    Reason.CID_HASH_MISMATCH: lambda: car.read_car(_HEADER + _SECTION[:-1] + b"?"),
    Reason.CAR_HEADER: lambda: car.read_car(wire.car_header([])),
    Reason.CAR_TRUNCATED: lambda: car.read_car(_HEADER + _SECTION[:-1]),
    Reason.CAR_SECTION: lambda: car.read_car(_HEADER + b"\x00"),
    Reason.CAR_TOO_LARGE: lambda: repo.verify_repo(
        _STEP.car, SIGNER.key, limits=repo.Limits(car_bytes=1)
    ),
    Reason.CAR_ROOT_MISSING: lambda: commit.open_commit(DID, _HEADER),
    Reason.KEY_INVALID: lambda: keys.parse_did_key("did:key:"),
    Reason.KEY_UNSUPPORTED: lambda: keys.parse_did_key(
        "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
    ),
    Reason.SIGNATURE_ENCODING: lambda: parse_operation(_FIRST | {"sig": "="}),
    Reason.SIGNATURE_FORM: lambda: _verify_signature(b""),
    Reason.SIGNATURE_HIGH_S: lambda: _verify_signature(
        SIGNER.with_high_s(SIGNER.sign(b"message"))
    ),
    Reason.SIGNATURE_INVALID: lambda: _verify_signature(OTHER_SIGNER.sign(b"message")),
    Reason.MST_NODE: lambda: trees.look_at(b"\xa0", paths=(trees.TOP,)),
    Reason.MST_KEY: lambda: root_of([("", _CID)]),
    Reason.MST_KEY_ORDER: lambda: trees.look_at(
        trees.node([trees.LEAF_AFTER, trees.LEAF_BEFORE]), paths=(trees.LEAF_BEFORE,)
    ),
    Reason.MST_PREFIX: _prefix_beyond_the_key,
    Reason.MST_LAYER: lambda: trees.look_at(
        trees.node([trees.LEAF_BEFORE, trees.TOP]), paths=(trees.LEAF_BEFORE,)
    ),
    Reason.MST_RANGE: _node_out_of_range,
    Reason.MST_RECURRENCE: _recurring_node,
    Reason.MST_BLOCK_MISSING: _without_node,
    Reason.MST_TOO_LARGE: lambda: trees.look_at(
        trees.node(list(oracle.sample_paths(0, MAX_NODE_ENTRIES_COUNT + 1))),
        paths=(trees.LEAF_BEFORE,),
    ),
    Reason.COMMIT_FIELD: lambda: _open(prev=b""),
    Reason.COMMIT_VERSION: lambda: _open(version=2),
    Reason.COMMIT_DID_MISMATCH: lambda: _open(did=OTHER_DID),
    Reason.COMMIT_REV_MISMATCH: lambda: _verify(rev=wire.rev(2)),
    Reason.COMMIT_CID_MISMATCH: lambda: _verify(commit=oracle.link(_CID)),
    Reason.COMMIT_REV_FUTURE: lambda: commit.check_rev_not_future(_STEP.opened().commit.rev, 0),
    Reason.COMMIT_OP_MISMATCH: lambda: _verify(
        ops=[op_fields(op) for op in (_DELETE, _UPDATE._replace(cid=_CREATE.cid), _CREATE)]
    ),
    Reason.COMMIT_PATH_TWICE: lambda: _verify(ops=[op_fields(_CREATE)] * 2),
    Reason.COMMIT_RECORD_MISSING: _without_record,
    Reason.COMMIT_RECORD_TOO_LARGE: _large_record,
    Reason.COMMIT_PREV_DATA_MISSING: lambda: _verify(prevData=...),
    Reason.COMMIT_PREV_DATA_MISMATCH: lambda: _verify(prevData=oracle.link(_CID)),
    Reason.COMMIT_NOT_GENESIS: lambda: _verify(prevData=..., since=None),
    Reason.PLC_ENTRY: lambda: verify_audit_log(DID, [{}]),
    Reason.PLC_OPERATION: lambda: parse_operation({}),
    Reason.PLC_TOO_LARGE: lambda: parse_operation(
        _FIRST | {"alsoKnownAs": ["a" * MAX_OPERATION_BYTES]}
    ),
    Reason.PLC_CID_MISMATCH: lambda: verify_audit_log(
        plc.did_of(_FIRST), [plc.entry(0, _FIRST, plc.did_of(_FIRST), cid="")]
    ),
    Reason.PLC_DID_MISMATCH: lambda: _verify_log(_FIRST, first=_STOLEN),
    Reason.PLC_FIRST: lambda: _verify_log(_STOLEN),
    Reason.PLC_PREV_UNKNOWN: lambda: _verify_log(_FIRST, plc.operation(_STOLEN)),
    Reason.PLC_PREV_NULLIFIED: lambda: _verify_log(
        _FIRST, _STOLEN, plc.operation(_FIRST), plc.operation(_STOLEN)
    ),
    Reason.PLC_TOMBSTONED: lambda: _verify_log(_FIRST, _TOMBSTONE, plc.operation(_TOMBSTONE)),
    Reason.PLC_KEY_PRIORITY: lambda: _verify_log(_FIRST, _STOLEN, _STOLEN),
    Reason.PLC_TIME_ORDER: _verify_early_recovery,
    Reason.PLC_TOO_LATE: _verify_late_recovery,
}


def _area(reason: Reason) -> str:
    return reason.partition(".")[0]


@pytest.mark.parametrize("reason", _REFUSALS, ids=str)
def test_the_smallest_input_is_refused_for(reason: Reason) -> None:
    error = refusal(_REFUSALS[reason])
    assert error.reason is reason
    assert error.detail
    assert type(error) in _CLASSES


def test_every_reason_of_the_protocol_has_its_input() -> None:
    raised_elsewhere = {reason for reason in Reason if _area(reason) == "identity"}
    assert set(Reason) - raised_elsewhere == set(_REFUSALS)


def test_reasons_are_an_area_and_a_word() -> None:
    """They are headers and metric labels: lower case, one dot, each value once."""
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", reason) for reason in Reason)
    assert all(reason.name == reason.replace(".", "_").upper() for reason in Reason)


@pytest.mark.parametrize("error_type", _CLASSES, ids=lambda error_type: error_type.__name__)
@pytest.mark.parametrize(
    "copied",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_an_error_survives_copying_with_all_its_fields(
    error_type: type[ProtocolError], copied: Callable[[ProtocolError], ProtocolError]
) -> None:
    error = error_type(Reason.MST_NODE, "why", did=DID, rev=wire.rev(0), path="com.example.note/1")
    twin = copied(error)
    assert type(twin) is error_type
    assert twin.reason is Reason.MST_NODE
    assert (twin.detail, twin.did, twin.rev, twin.path) == (
        "why",
        DID,
        wire.rev(0),
        "com.example.note/1",
    )
    assert str(twin) == str(error)


def test_the_text_names_what_is_known() -> None:
    assert str(ProtocolError(Reason.MST_NODE, "why")) == "mst.node: why"
    assert str(ProtocolError(Reason.MST_NODE, "why", did=DID, path="a.b.c/d")) == (
        f"mst.node: why (did={DID} path=a.b.c/d)"
    )


def test_all_errors_are_one_family() -> None:
    assert set(ProtocolError.__subclasses__()) == set(_CLASSES) - {errors.PlcError}
    assert issubclass(errors.PlcError, errors.IdentityError)
