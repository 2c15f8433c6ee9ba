"""Signed commits: the object, the signature, and what a message may claim about them."""

from functools import partial
from typing import Any

import pytest
from support.oracle import cid_of, dag_cbor, link
from support.repo import (
    DID,
    OTHER_DID,
    OTHER_SIGNER,
    P256_SIGNER,
    SIGNER,
    Repo,
    Signer,
    Step,
    commit_fields,
    make_op,
    make_step,
    op_fields,
    record,
    refusal,
    sign_commit,
)
from support.wire import START_US, car, car_header, car_section, rev, tid

from pipelines.atproto import commit, mst
from pipelines.atproto.commit import (
    MAX_CLOCK_SKEW_US,
    MAX_COMMIT_BYTES,
    MAX_RECORD_BYTES,
    parse_commit,
)
from pipelines.atproto.errors import CommitError, MstError, ProtocolError, Reason, SignatureError
from pipelines.atproto.frames import MAX_OPS_COUNT, Action
from pipelines.atproto.syntax import MAX_DID_LENGTH, tid_time_us

_STEP = make_step()
_DELETE, _UPDATE, _CREATE = _STEP.ops
_ROOT = mst.EMPTY_ROOT_CID
_LONGEST_DID = "did:web:".ljust(MAX_DID_LENGTH, "a")
_BLOB = link(b"\x01\x55\x12\x20" + _ROOT[4:])


def _block(**changes: Any) -> bytes:
    """Returns a commit's block; a change to `...` leaves the field out."""
    fields = {"sig": bytes(64), **commit_fields(_ROOT), **changes}
    return dag_cbor({name: value for name, value in fields.items() if value is not ...})


def _verify_error(step: Step = _STEP, **changes: Any) -> ProtocolError:
    return refusal(lambda: commit.verify_commit(step.message(**changes), SIGNER.key))


def _ops(*ops: Any) -> list[dict[str, Any]]:
    return [op_fields(op) for op in ops]


@pytest.mark.parametrize("signer", [SIGNER, P256_SIGNER], ids=["k256", "p256"])
def test_a_commit_is_proven_with_all_it_did(signer: Signer) -> None:
    """Spec: D-01, G-06 to G-12."""
    step = make_step(signer)
    verified = commit.verify_commit(step.message(), signer.key)
    assert [proven.op for proven in verified.ops] == list(step.ops)
    assert [proven.record for proven in verified.ops] == [
        None,
        dag_cbor(record("second")),
        dag_cbor(record("new")),
    ]
    assert (verified.commit.did, verified.commit.rev) == (DID, step.rev)
    assert verified.commit.data_cid == step.after.root
    assert verified.commit.block == step.commit


@pytest.mark.parametrize("signer", [SIGNER, P256_SIGNER], ids=["k256", "p256"])
def test_a_sync_is_proven(signer: Signer) -> None:
    """Spec: G-30."""
    step = make_step(signer)
    verified = commit.verify_sync(step.sync_message(), signer.key)
    assert verified.commit_cid == cid_of(step.commit)
    assert verified.commit.data_cid == step.after.root


def test_the_nodes_that_inversion_needs_are_enough() -> None:
    """Spec: G-12, G-21."""
    assert len(_STEP.needed_nodes) < len(_STEP.after.nodes)
    verified = commit.verify_commit(_STEP.message(blocks=_STEP.needed_car), SIGNER.key)
    assert len(verified.ops) == 3


def test_without_any_one_of_them_it_is_refused() -> None:
    """Spec: G-12."""
    for missing in _STEP.needed_nodes:
        kept = {
            cid: block
            for cid, block in {**_STEP.needed_nodes, **_STEP.records}.items()
            if cid != missing
        }
        blocks = car(cid_of(_STEP.commit), [_STEP.commit, *kept.values()])
        assert _verify_error(blocks=blocks).reason in {
            Reason.MST_BLOCK_MISSING,
            Reason.COMMIT_PREV_DATA_MISMATCH,
        }


def test_blocks_that_nothing_needs_are_ignored() -> None:
    """Spec: C-07, G-20."""
    stray = dag_cbor(record("stray"))
    blocks = car(cid_of(_STEP.commit), [stray, *_STEP.blocks.values(), stray])
    assert commit.verify_commit(_STEP.message(blocks=blocks), SIGNER.key).ops


def test_a_first_commit_is_proven_from_nothing() -> None:
    """Spec: G-18."""
    for changes in ({}, {"com.example.note/1": record("first")}):
        step = Repo().apply(changes)
        verified = commit.verify_commit(step.message(), SIGNER.key)
        assert verified.message.prev_data is None
        assert len(verified.ops) == len(changes)


def test_an_empty_commit_needs_no_node() -> None:
    """Spec: B-11, G-15."""
    repo = Repo()
    repo.apply({"com.example.note/1": record("first")})
    step = repo.apply({})
    blocks = car(cid_of(step.commit), [step.commit])
    assert commit.verify_commit(step.message(blocks=blocks), SIGNER.key).ops == ()
    other = link(cid_of(b"other"))
    error = _verify_error(step, prevData=other)
    assert error.reason is Reason.COMMIT_PREV_DATA_MISMATCH


def test_an_update_that_changes_nothing_is_accepted() -> None:
    """Spec: G-10: deployed servers emit it."""
    repo = Repo()
    repo.apply({"com.example.note/1": record("same")})
    step = repo.apply({"com.example.note/1": record("same")})
    same = cid_of(dag_cbor(record("same")))
    op = {"action": "update", "path": "com.example.note/1", "cid": link(same), "prev": link(same)}
    assert len(commit.verify_commit(step.message(ops=[op]), SIGNER.key).ops) == 1


def test_deleting_the_last_record_leaves_the_empty_tree() -> None:
    repo = Repo()
    repo.apply({"com.example.note/1": record("only")})
    step = repo.apply({"com.example.note/1": None})
    assert step.after.root == _ROOT
    assert len(commit.verify_commit(step.message(), SIGNER.key).ops) == 1


@pytest.mark.parametrize("version", [1, 2, 4, 0, -3, 2**63, True, None, "3", [3], ...], ids=repr)
def test_only_version_3_is_taken(version: Any) -> None:
    """Spec: B-01."""
    error = refusal(lambda: parse_commit(_block(version=version)))
    assert error.reason is Reason.COMMIT_VERSION


def test_no_depth_of_the_version_breaks_the_refusal() -> None:
    """Spec: M-01."""
    for depth in range(700, 1_010):
        block = b"\xa1\x67version" + b"\x81" * depth + b"\x00"
        error = refusal(partial(parse_commit, block))
        assert error.reason in {Reason.COMMIT_VERSION, Reason.COMMIT_FIELD}
        assert len(error.detail) < 200


@pytest.mark.parametrize(
    ("surplus_bytes", "reason"), [(0, Reason.COMMIT_VERSION), (1, Reason.COMMIT_FIELD)]
)
def test_what_is_too_large_for_a_commit_is_not_looked_into(
    surplus_bytes: int, reason: Reason
) -> None:
    """Spec: M-01."""
    size = MAX_COMMIT_BYTES + surplus_bytes
    # The length of so long a text takes two bytes more than that of none.
    block = _block(version=2, x="x" * (size - len(_block(version=2, x="")) - 2))
    assert len(block) == size
    assert refusal(lambda: parse_commit(block)).reason is reason


def test_the_largest_commit_object_is_taken() -> None:
    """Spec: B-02."""
    block = _block(did=_LONGEST_DID, prev=link(_ROOT))
    assert len(block) == 2_245 <= MAX_COMMIT_BYTES
    assert parse_commit(block).did == _LONGEST_DID


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff", id="no CBOR"),
        pytest.param(dag_cbor([]), id="list"),
        pytest.param(dag_cbor("text"), id="text"),
        pytest.param(_block() + b"\x00", id="trailing byte"),
        pytest.param(_block(did=...), id="no did"),
        pytest.param(_block(did="alice.test"), id="did a handle"),
        pytest.param(_block(did=None), id="did null"),
        pytest.param(_block(did=_LONGEST_DID + "a"), id="did too long"),
        pytest.param(_block(did="did:web:" + "a" * 70_000), id="did of 17 bits of length"),
        pytest.param(_block().replace(DID.encode(), DID.encode() + b"a"), id="did not its length"),
        pytest.param(_block().replace(DID.encode(), DID.encode()[:-1]), id="did cut short"),
        pytest.param(_block(rev=...), id="no rev"),
        pytest.param(_block(rev="1"), id="rev not a TID"),
        pytest.param(_block(rev=1), id="rev not text"),
        pytest.param(_block(data=...), id="no data"),
        pytest.param(_block(data=None), id="data null"),
        pytest.param(_block(data=_BLOB), id="data a blob"),
        pytest.param(_block(data=_ROOT), id="data a byte string"),
        pytest.param(_block(prev=...), id="prev absent"),
        pytest.param(_block(prev="x"), id="prev text"),
        pytest.param(_block(prev=b""), id="prev empty bytes"),
        pytest.param(_block(prev=_BLOB), id="prev a blob"),
        pytest.param(_block(prev=_ROOT), id="prev a byte string"),
        pytest.param(_block(sig=...), id="no sig"),
        pytest.param(_block(sig=None), id="sig null"),
        pytest.param(_block(sig="x" * 64), id="sig text"),
        pytest.param(_block(sig=bytes(63)), id="sig too short"),
        pytest.param(_block(sig=bytes(65)), id="sig too long"),
        pytest.param(_block(sig=link(_ROOT)), id="sig a link"),
        pytest.param(_block(x=None), id="further field"),
        pytest.param(_block().replace(b"version\x03", b"version\x18\x03"), id="long integer"),
        pytest.param(_block().replace(b"\xa6cdid", b"\xb8\x06cdid"), id="long length"),
        pytest.param(_block().replace(b"csigX@", b"csigY\x00@"), id="long length of sig"),
    ],
)
def test_a_commit_of_another_shape_is_refused(block: bytes) -> None:
    """Spec: A-13, B-02 to B-08."""
    error = refusal(lambda: parse_commit(block))
    assert isinstance(error, CommitError)
    assert error.reason is Reason.COMMIT_FIELD


@pytest.mark.parametrize(
    "did", [_LONGEST_DID, "did:web:crevm3jzfcijpj2z2acsigX", "did:web:csigX", "did:a:b"]
)
def test_a_did_is_as_long_as_it_says(did: str) -> None:
    """Spec: B-02: also one that contains the names of the fields after it."""
    commit = parse_commit(_block(did=did))
    assert (commit.did, commit.unsigned) == (did, dag_cbor(commit_fields(_ROOT, did=did)))


def test_a_signature_may_look_like_a_link() -> None:
    """The codec would make a link of it when it encodes."""
    signature = _ROOT + bytes(28)
    assert parse_commit(_block(sig=signature)).signature == signature


def test_an_earlier_commit_may_be_named() -> None:
    """Spec: B-02."""
    assert parse_commit(_block(prev=link(_ROOT))).prev == _ROOT


def test_what_was_signed_is_the_object_without_its_signature() -> None:
    """Spec: B-07."""
    fields = commit_fields(_ROOT, prev=link(_ROOT))
    assert parse_commit(sign_commit(fields)).unsigned == dag_cbor(fields)


def test_the_commit_may_come_last() -> None:
    """Spec: C-06."""
    blocks = car(cid_of(_STEP.commit), reversed(_STEP.blocks.values()))
    assert commit.open_commit(DID, blocks).commit_cid == cid_of(_STEP.commit)


def test_the_first_root_is_the_commit() -> None:
    """Spec: C-03."""
    roots = [cid_of(_STEP.commit), _STEP.after.root]
    sections = [car_section(cid_of(block), block) for block in _STEP.blocks.values()]
    blocks = car_header(roots) + b"".join(sections)
    assert commit.open_commit(DID, blocks).commit_cid == roots[0]


def test_the_limits_are_those_of_the_network() -> None:
    """Spec: A-30, G-05."""
    assert (MAX_RECORD_BYTES, MAX_CLOCK_SKEW_US) == (1_048_576, 300_000_000)


def test_a_commit_that_is_not_there_is_missed() -> None:
    """Spec: C-04."""
    blocks = car(cid_of(_STEP.commit), _STEP.after.nodes.values())
    error = refusal(lambda: commit.open_commit(DID, blocks))
    assert error.reason is Reason.CAR_ROOT_MISSING


def test_a_commit_of_another_repository_is_refused() -> None:
    """Spec: B-05, G-07."""
    error = refusal(lambda: commit.open_commit(OTHER_DID, _STEP.car))
    assert error.reason is Reason.COMMIT_DID_MISMATCH


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (OTHER_SIGNER.sign, Reason.SIGNATURE_INVALID),
        (lambda message: SIGNER.sign(message + b"x"), Reason.SIGNATURE_INVALID),
        (P256_SIGNER.sign, Reason.SIGNATURE_INVALID),
        (lambda message: SIGNER.with_high_s(SIGNER.sign(message)), Reason.SIGNATURE_HIGH_S),
        (lambda _: bytes(64), Reason.SIGNATURE_FORM),
        (lambda _: b"\xff" * 64, Reason.SIGNATURE_FORM),
    ],
    ids=["other key", "other message", "other curve", "high s", "zero", "beyond the order"],
)
def test_only_the_accounts_key_with_low_s_signs(signature: Any, reason: Reason) -> None:
    """Spec: D-02, D-03, G-08."""
    fields = commit_fields(_ROOT)
    block = dag_cbor({**fields, "sig": signature(dag_cbor(fields))})
    opened = commit.open_commit(DID, car(cid_of(block), [block]))
    error = refusal(lambda: commit.authenticate(opened, SIGNER.key))
    assert isinstance(error, SignatureError)
    assert error.reason is reason


@pytest.mark.parametrize(
    ("ahead_us", "is_refused"), [(MAX_CLOCK_SKEW_US, False), (MAX_CLOCK_SKEW_US + 1, True)]
)
def test_a_revision_may_be_five_minutes_ahead(ahead_us: int, *, is_refused: bool) -> None:
    """Spec: G-05."""
    parsed = parse_commit(_block(rev=tid(START_US + ahead_us)))
    assert tid_time_us(parsed.rev) == START_US + ahead_us
    if is_refused:
        error = refusal(lambda: commit.check_rev_not_future(parsed.rev, START_US))
        assert error.reason is Reason.COMMIT_REV_FUTURE
    else:
        commit.check_rev_not_future(parsed.rev, START_US)


@pytest.mark.parametrize("old", ["2222222222222", "222222d7n7i22"])
def test_a_revision_may_be_as_old_as_it_likes(old: str) -> None:
    """Spec: G-05."""
    commit.check_rev_not_future(parse_commit(_block(rev=old)).rev, START_US)


@pytest.mark.parametrize("future", ["7777777777777", "jzzzzzzzzzzzz"])
def test_a_revision_of_the_far_future_is_refused(future: str) -> None:
    """Spec: G-05, K-05: also with the highest bit set."""
    parsed = parse_commit(_block(rev=future))
    error = refusal(lambda: commit.check_rev_not_future(parsed.rev, START_US))
    assert error.reason is Reason.COMMIT_REV_FUTURE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"rev": rev(9)}, Reason.COMMIT_REV_MISMATCH, id="rev"),
        pytest.param({"commit": link(_ROOT)}, Reason.COMMIT_CID_MISMATCH, id="commit"),
        pytest.param({"prevData": link(_ROOT)}, Reason.COMMIT_PREV_DATA_MISMATCH, id="prevData"),
        pytest.param({"prevData": ...}, Reason.COMMIT_PREV_DATA_MISSING, id="no prevData"),
        pytest.param({"prevData": None}, Reason.COMMIT_PREV_DATA_MISSING, id="prevData null"),
        pytest.param(
            {"prevData": ..., "since": None}, Reason.COMMIT_NOT_GENESIS, id="called the first"
        ),
        pytest.param({"ops": []}, Reason.COMMIT_PREV_DATA_MISMATCH, id="no op"),
        pytest.param(
            {"ops": _ops(_DELETE, _UPDATE)}, Reason.COMMIT_PREV_DATA_MISMATCH, id="op left out"
        ),
        pytest.param({"ops": _ops(*_STEP.ops, _CREATE)}, Reason.COMMIT_PATH_TWICE, id="op twice"),
        pytest.param(
            {"ops": _ops(_UPDATE, _UPDATE)}, Reason.COMMIT_PATH_TWICE, id="one op, twice"
        ),
        pytest.param(
            {"ops": _ops(_DELETE, _UPDATE, _CREATE._replace(path="com.example.note/0007"))},
            Reason.COMMIT_OP_MISMATCH,
            id="other path",
        ),
        pytest.param(
            {"ops": _ops(_DELETE, _UPDATE, _CREATE._replace(cid=_UPDATE.cid))},
            Reason.COMMIT_OP_MISMATCH,
            id="other cid",
        ),
        pytest.param(
            {"ops": _ops(_DELETE, _UPDATE._replace(prev=_DELETE.prev), _CREATE)},
            Reason.COMMIT_PREV_DATA_MISMATCH,
            id="other prev of an update",
        ),
        pytest.param(
            {"ops": _ops(_DELETE._replace(prev=_UPDATE.prev), _UPDATE, _CREATE)},
            Reason.COMMIT_PREV_DATA_MISMATCH,
            id="other prev of a delete",
        ),
        pytest.param(
            {"ops": _ops(_DELETE, _UPDATE, _CREATE._replace(cid=_ROOT))},
            Reason.COMMIT_RECORD_MISSING,
            id="record that is not there",
        ),
    ],
)
def test_no_claim_of_the_message_goes_unproven(changes: dict[str, Any], reason: Reason) -> None:
    """Spec: G-07, G-09, G-10, G-12, G-17."""
    error = _verify_error(**changes)
    assert error.reason is reason


def test_a_sync_repeats_the_signed_revision() -> None:
    """Spec: G-30."""
    message = _STEP.sync_message(rev=rev(9))
    error = refusal(lambda: commit.verify_sync(message, SIGNER.key))
    assert error.reason is Reason.COMMIT_REV_MISMATCH


def test_a_tree_that_breaks_a_rule_sinks_its_commit() -> None:
    """Spec: G-11."""
    block = sign_commit(commit_fields(_CREATE.cid or b"", rev=_STEP.rev))
    blocks = car(cid_of(block), [block, *_STEP.records.values()])
    error = _verify_error(commit=link(cid_of(block)), blocks=blocks)
    assert isinstance(error, MstError)
    assert error.reason is Reason.MST_NODE


def test_a_record_has_at_most_one_mebibyte() -> None:
    """Spec: A-30."""
    overhead = len(dag_cbor(record("x" * 70_000))) - 70_000
    for size, is_refused in ((MAX_RECORD_BYTES, False), (MAX_RECORD_BYTES + 1, True)):
        step = Repo().apply({"com.example.note/1": record("x" * (size - overhead))})
        (block,) = step.records.values()
        assert len(block) == size
        if is_refused:
            error = _verify_error(step)
            assert error.reason is Reason.COMMIT_RECORD_TOO_LARGE
            assert error.path == "com.example.note/1"
        else:
            verified = commit.verify_commit(step.message(), SIGNER.key)
            assert verified.ops[0].record == block


def test_one_block_may_be_the_record_of_every_op_and_is_not_copied() -> None:
    """Spec: B-45: the outputs of such a commit have to be bounded, its input is small."""
    same = record("x" * 1_000_000)
    paths = [f"com.example.note/{n:03}" for n in range(MAX_OPS_COUNT)]
    step = Repo().apply(dict.fromkeys(paths, same))
    verified = commit.verify_commit(step.message(), SIGNER.key)
    assert [proven.op.path for proven in verified.ops] == paths
    assert len({id(proven.record) for proven in verified.ops}) == 1


def test_records_are_not_decoded() -> None:
    """Spec: A-32: an odd record is no reason to refuse its commit."""
    odd = b"\xff not CBOR"
    repo = Repo()
    repo.records["com.example.note/1"] = cid_of(odd)
    step = repo.apply({})
    op = make_op(Action.CREATE, "com.example.note/1", cid_of(odd), None)
    blocks = car(cid_of(step.commit), [*step.blocks.values(), odd])
    message = step.message(ops=_ops(op), blocks=blocks)
    assert commit.verify_commit(message, SIGNER.key).ops[0].record == odd
