"""The verdict on a frame: which key is tried when, and what a refusal says."""

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
    ScriptedKeys,
    commit_fields,
    make_step,
    sign_commit,
)
from support.wire import START_TIME, START_US, car, frame, rev, tid

from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.frames import Kind
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import parse_datetime
from pipelines.errors import IdentityUnavailableError
from pipelines.verdict import Proven, Refused, Skipped, Unsigned, Verdict, judge_frame

_STEP = make_step()
_REV_US = START_US + 1_000_000
_NOW_US = START_US + 2_000_000
_CURRENT, _REFRESHED = ("current", DID), ("refreshed", DID, _NOW_US)
_PAST = ("at", DID, _REV_US)
_NOT_FOUND = IdentityError(Reason.IDENTITY_NOT_FOUND, "unknown", did=DID)
_NO_KEY = IdentityError(Reason.IDENTITY_NO_KEY, "no key", did=DID)
_UNREACHABLE = IdentityUnavailableError("the directory is down")


def _judge(keys: ScriptedKeys, raw: bytes | None = None) -> Verdict:
    return judge_frame(_STEP.frame() if raw is None else raw, keys, _NOW_US)


def _refused(verdict: Verdict, reason: Reason) -> Refused:
    assert isinstance(verdict, Refused)
    assert verdict.error.reason is reason
    return verdict


def _frame_with_rev(revision: str) -> bytes:
    return Repo().apply({}, revision).frame()


@pytest.mark.parametrize("raw", [_STEP.frame(), _STEP.sync_frame()], ids=["commit", "sync"])
def test_the_current_key_is_tried_first_and_alone(raw: bytes) -> None:
    keys = ScriptedKeys(SIGNER.key)
    assert isinstance(_judge(keys, raw), Proven)
    assert keys.asked == [_CURRENT]


@pytest.mark.parametrize("wrong", [OTHER_SIGNER.key, P256_SIGNER.key], ids=["k256", "p256"])
def test_a_refreshed_key_is_tried_second(wrong: Any) -> None:
    """Spec: E-14."""
    keys = ScriptedKeys(wrong, refreshed=SIGNER.key)
    assert isinstance(_judge(keys), Proven)
    assert keys.asked == [_CURRENT, _REFRESHED]


def test_the_key_at_the_time_of_the_signed_revision_is_tried_last() -> None:
    for refreshed in (None, OTHER_SIGNER.key, P256_SIGNER.key):
        keys = ScriptedKeys(OTHER_SIGNER.key, refreshed=refreshed, past=SIGNER.key)
        assert isinstance(_judge(keys), Proven)
        assert keys.asked == [_CURRENT, _REFRESHED, _PAST]


def test_a_signature_of_no_key_is_refused() -> None:
    """Spec: G-08."""
    for past in (None, OTHER_SIGNER.key, P256_SIGNER.key):
        keys = ScriptedKeys(OTHER_SIGNER.key, past=past)
        refused = _refused(_judge(keys), Reason.SIGNATURE_INVALID)
        assert refused.authentic is None
        assert len(keys.asked) == 3


def test_the_same_key_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up often answers with the key that has just failed; a check costs 50 µs."""
    tried: list[VerifyingKey] = []
    verify = VerifyingKey.verify

    def count(key: VerifyingKey, message: bytes, signature: bytes) -> None:
        tried.append(key)
        verify(key, message, signature)

    monkeypatch.setattr(VerifyingKey, "verify", count)
    wrong = OTHER_SIGNER.key
    _refused(_judge(ScriptedKeys(wrong, refreshed=wrong, past=wrong)), Reason.SIGNATURE_INVALID)
    assert tried == [wrong]


def test_a_malformed_signature_asks_for_no_further_key() -> None:
    fields = commit_fields(cid_of(b""), rev=_STEP.rev)
    signature = SIGNER.with_high_s(SIGNER.sign(dag_cbor(fields)))
    block = dag_cbor({**fields, "sig": signature})
    keys = ScriptedKeys(SIGNER.key)
    raw = _STEP.frame(commit=link(cid_of(block)), blocks=car(cid_of(block), [block]))
    _refused(_judge(keys, raw), Reason.SIGNATURE_HIGH_S)
    assert keys.asked == [_CURRENT]


@pytest.mark.parametrize("error", [_NOT_FOUND, _NO_KEY], ids=lambda error: error.reason)
def test_no_key_never_means_verified(error: IdentityError) -> None:
    """Spec: E-15."""
    _refused(_judge(ScriptedKeys(error)), error.reason)
    _refused(_judge(ScriptedKeys(error, refreshed=error, past=error)), error.reason)


def test_an_account_without_a_key_now_may_have_had_one_when_it_signed() -> None:
    keys = ScriptedKeys(_NOT_FOUND, refreshed=_NOT_FOUND, past=SIGNER.key)
    assert isinstance(_judge(keys), Proven)


def test_a_bad_signature_outweighs_a_missing_history() -> None:
    keys = ScriptedKeys(OTHER_SIGNER.key, past=_NOT_FOUND)
    _refused(_judge(keys), Reason.SIGNATURE_INVALID)


@pytest.mark.parametrize(
    "keys",
    [
        ScriptedKeys(_UNREACHABLE),
        ScriptedKeys(OTHER_SIGNER.key, refreshed=_UNREACHABLE),
        ScriptedKeys(OTHER_SIGNER.key, past=_UNREACHABLE),
        ScriptedKeys(_NOT_FOUND, past=_UNREACHABLE),
    ],
    ids=["current", "refreshed", "past", "past, none current"],
)
def test_an_identity_out_of_reach_is_no_verdict(keys: ScriptedKeys) -> None:
    """Spec: E-18."""
    with pytest.raises(IdentityUnavailableError):
        _judge(keys)


def test_an_unreadable_frame_is_refused_without_a_look_up() -> None:
    keys = ScriptedKeys()
    refused = _refused(_judge(keys, b"\xff"), Reason.FRAME_NOT_CBOR)
    assert (refused.envelope, refused.authentic) == (None, None)
    assert keys.asked == []


def test_no_look_up_is_made_for_what_cannot_be_proven_anyway() -> None:
    keys = ScriptedKeys()
    _refused(_judge(keys, _STEP.frame(blocks=...)), Reason.FRAME_FIELD)
    _refused(_judge(keys, _STEP.frame(blocks=b"x")), Reason.CAR_TRUNCATED)
    _refused(_judge(keys, _STEP.frame(repo=OTHER_DID)), Reason.COMMIT_DID_MISMATCH)
    assert keys.asked == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"ops": []}, Reason.COMMIT_PREV_DATA_MISMATCH, id="claims unproven"),
        pytest.param({"ops": [None]}, Reason.FRAME_OP, id="claims unreadable"),
        pytest.param({"rev": rev(9)}, Reason.COMMIT_REV_MISMATCH, id="other rev"),
        pytest.param({"rev": "1"}, Reason.FRAME_FIELD, id="unreadable rev"),
        pytest.param({"time": "today"}, Reason.FRAME_FIELD, id="unreadable time"),
    ],
)
def test_a_refused_message_about_an_authentic_commit_says_so(
    changes: dict[str, Any], reason: Reason
) -> None:
    refused = _refused(_judge(ScriptedKeys(), _STEP.frame(**changes)), reason)
    assert refused.authentic is not None
    assert refused.authentic.commit_cid == cid_of(_STEP.commit)
    assert refused.envelope is not None
    assert refused.envelope.kind is Kind.COMMIT


def test_a_sync_with_another_revision_is_refused_but_its_commit_authentic() -> None:
    raw = _STEP.sync_frame(rev=rev(9))
    refused = _refused(_judge(ScriptedKeys(), raw), Reason.COMMIT_REV_MISMATCH)
    assert refused.authentic is not None


def test_a_commit_of_the_future_is_not_called_authentic() -> None:
    """Spec: G-05: else it would be the repository's newest until then."""
    future = tid(_NOW_US + 6 * 60 * 1_000_000)
    refused = _refused(_judge(ScriptedKeys(), _frame_with_rev(future)), Reason.COMMIT_REV_FUTURE)
    assert refused.authentic is None


def test_the_future_begins_when_the_frame_was_received() -> None:
    """Spec: G-05: so that a later replay gives the same verdict."""
    later = tid(START_US + 60 * 60 * 1_000_000)
    raw = _frame_with_rev(later)
    received_us = START_US + 56 * 60 * 1_000_000
    assert isinstance(judge_frame(raw, ScriptedKeys(), received_us), Proven)
    _refused(judge_frame(raw, ScriptedKeys(), START_US), Reason.COMMIT_REV_FUTURE)


def test_without_a_time_of_receipt_the_frames_own_stands_for_it() -> None:
    assert parse_datetime(START_TIME) == START_US
    assert isinstance(judge_frame(_STEP.frame(), ScriptedKeys(), None), Proven)
    earlier = _STEP.frame(time="2025-12-31T23:50:00Z")
    _refused(judge_frame(earlier, ScriptedKeys(), None), Reason.COMMIT_REV_FUTURE)
    assert isinstance(judge_frame(earlier, ScriptedKeys(), START_US), Proven)
    unreadable = _STEP.frame(time=...)
    _refused(judge_frame(unreadable, ScriptedKeys(), None), Reason.SYNTAX_DATETIME)


@pytest.mark.parametrize("type_name", ["#identity", "#account"])
def test_what_nobody_signs_is_passed_on_as_such(type_name: str) -> None:
    keys = ScriptedKeys()
    payload = {"seq": 1, "did": DID, "time": START_TIME, "active": True}
    verdict = _judge(keys, frame(type_name, payload))
    assert isinstance(verdict, Unsigned)
    assert verdict.message.did == DID
    refused = _refused(_judge(keys, frame(type_name, payload | {"time": 1})), Reason.FRAME_FIELD)
    assert refused.envelope is not None
    assert refused.authentic is None
    assert keys.asked == []


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (frame("#info", {"name": "OutdatedCursor"}), Kind.INFO),
        (dag_cbor({"op": -1}) + dag_cbor({"error": "FutureCursor"}), Kind.ERROR),
        (frame("#other", {"seq": 1, "did": DID}), Kind.UNKNOWN),
    ],
    ids=["info", "error", "unknown"],
)
def test_what_has_nothing_to_prove_is_skipped(raw: bytes, kind: Kind) -> None:
    verdict = _judge(ScriptedKeys(), raw)
    assert isinstance(verdict, Skipped)
    assert verdict.envelope.kind is kind


def test_a_sync_signed_by_another_account_is_refused() -> None:
    """Spec: M-10."""
    block = sign_commit(commit_fields(cid_of(b""), did=OTHER_DID))
    raw = _STEP.sync_frame(blocks=car(cid_of(block), [block]), rev=rev(0))
    _refused(_judge(ScriptedKeys(), raw), Reason.COMMIT_DID_MISMATCH)
