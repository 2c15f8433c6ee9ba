"""PLC logs: what stands, and which key was current when (spec: L-04 to L-08, L-13, L-15)."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import plc
from support.repo import OTHER_SIGNER, P256_SIGNER, SIGNER, Signer, refusal

from pipelines.atproto.errors import PlcError, Reason
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import parse_datetime
from pipelines.identity.documents import parse_document
from pipelines.identity.operation import parse_operation
from pipelines.identity.plc import (
    Chain,
    Refused,
    Valid,
    follow,
    judge_log,
    key_at,
    prune,
    verify_audit_log,
)

_HOUR_US = 3_600_000_000
_ZERO_US = parse_datetime("2026-01-01T00:00:00.000Z")
_OLD, _NEW = SIGNER.key, OTHER_SIGNER.key
_ED25519 = "did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH"

# The most powerful key, the one that servers use, and one that may sign nothing.
_OWNER, _SERVER, _STRANGER = SIGNER, P256_SIGNER, OTHER_SIGNER

_FIRST = plc.operation(signer=_SERVER)
_DID = plc.did_of(_FIRST)
_STOLEN = plc.operation(_FIRST, _SERVER, alsoKnownAs=["at://mallory.example.com"])
_TAKEN_FURTHER = plc.operation(_STOLEN, _SERVER, rotation=[_STRANGER])
_RECOVERED = plc.operation(_FIRST, _OWNER)


def _judge(*entries: tuple[float, plc.Json]) -> list[int | Reason | None]:
    """Returns why an operation is refused, or the place of the one that makes it void."""
    log = [plc.entry(hour, signed, _DID) for hour, signed in entries]
    return [
        entry.error.reason if isinstance(entry, Refused) else entry.nullified_by
        for entry in judge_log(_DID, log)
    ]


def _key_at(hour: float, *operations: plc.Json) -> VerifyingKey | None:
    log = plc.log_of(*operations)
    history = verify_audit_log(plc.did_of(operations[0]), log)
    return key_at(history, _ZERO_US + int(hour * _HOUR_US))


class TestKeyAtATime:
    def test_a_key_is_current_from_its_operation_on(self) -> None:
        first = plc.with_key(_OLD.did_key())
        log = [first, plc.with_key(_NEW.did_key(), first)]
        assert [_key_at(hour, *log) for hour in (0, 0.999, 1, 1_000)] == [_OLD, _OLD, _NEW, _NEW]

    def test_before_the_first_operation_its_own_key_counts(self) -> None:
        """Servers sign an account's first commit before the directory has heard of it."""
        first = plc.with_key(_OLD.did_key())
        assert _key_at(-1, first, plc.with_key(_NEW.did_key(), first)) == _OLD

    def test_an_operation_that_was_made_void_never_counted(self) -> None:
        """Spec: L-07."""
        first = plc.with_key(_OLD.did_key())
        stolen = plc.operation(first, _SERVER, verificationMethods={"atproto": _NEW.did_key()})
        recovered = plc.with_key(_OLD.did_key(), first)
        assert _key_at(1.5, first, stolen) == _NEW
        assert _key_at(1.5, first, stolen, recovered) == _OLD

    def test_a_tombstone_leaves_no_key(self) -> None:
        """Spec: E-10, L-08."""
        log = [_FIRST, plc.tombstone(_FIRST)]
        assert [_key_at(hour, *log) for hour in (0.5, 1)] == [SIGNER.key, None]

    def test_the_legacy_first_operation_is_read(self) -> None:
        """Spec: L-02, L-06."""
        first = plc.create(signingKey=_OLD.did_key())
        log = [first, plc.with_key(_NEW.did_key(), first)]
        assert [_key_at(hour, *log) for hour in (0, 1)] == [_OLD, _NEW]

    @pytest.mark.parametrize("unusable", [_ED25519, "did:key:", ""])
    def test_an_unusable_key_is_no_key_from_then_on(self, unusable: str) -> None:
        """Spec: L-10."""
        log = [_FIRST, plc.with_key(unusable, _FIRST)]
        assert [_key_at(hour, *log) for hour in (0, 1)] == [SIGNER.key, None]

    def test_a_log_with_one_bad_operation_says_nothing(self) -> None:
        forged = plc.operation(_FIRST, _STRANGER)
        error = refusal(lambda: verify_audit_log(_DID, plc.log_of(_FIRST, forged, _RECOVERED)))
        assert (type(error), error.reason) == (PlcError, Reason.SIGNATURE_INVALID)
        assert error.did == _DID
        assert error.detail.startswith("operation 1: ")


class TestFirstOperation:
    def test_it_is_signed_by_one_of_its_own_keys(self) -> None:
        """Spec: L-06."""
        assert _judge((0, _FIRST)) == [None]
        forged = plc.operation(signer=_STRANGER)
        log = plc.log_of(forged)
        (judged,) = judge_log(plc.did_of(forged), log)
        assert isinstance(judged, Refused)
        assert judged.error.reason is Reason.SIGNATURE_INVALID

    def test_its_hash_is_the_did(self) -> None:
        """Spec: L-05."""
        assert _judge((0, plc.operation(alsoKnownAs=[]))) == [Reason.PLC_DID_MISMATCH]

    @pytest.mark.parametrize(
        "signed", [_RECOVERED, plc.tombstone(_FIRST)], ids=["op", "tombstone"]
    )
    def test_it_follows_nothing(self, signed: plc.Json) -> None:
        assert _judge((0, signed)) == [Reason.PLC_FIRST]

    def test_there_is_one(self) -> None:
        assert _judge((0, _FIRST), (1, _FIRST)) == [None, Reason.PLC_PREV_UNKNOWN]


class TestSuccession:
    """Spec: L-06, L-08."""

    def test_any_key_of_the_predecessor_may_sign(self) -> None:
        by_owner = plc.operation(_FIRST, _OWNER, rotation=[_STRANGER])
        by_stranger = plc.operation(by_owner, _STRANGER)
        by_server = plc.operation(by_stranger, _SERVER)
        assert _judge((0, _FIRST), (1, by_owner), (2, by_stranger), (3, by_server)) == [None] * 4

    def test_a_key_of_another_operation_may_not(self) -> None:
        changed = plc.operation(_FIRST, _OWNER, rotation=[_OWNER])
        dropped = plc.operation(changed, _SERVER)
        own = plc.operation(changed, _STRANGER, rotation=[_STRANGER])
        assert _judge((0, _FIRST), (1, changed), (2, dropped), (3, own)) == [
            None,
            None,
            Reason.SIGNATURE_INVALID,
            Reason.SIGNATURE_INVALID,
        ]

    def test_without_rotation_keys_nothing_follows(self) -> None:
        """Spec: L-09."""
        last = plc.operation(_FIRST, _OWNER, rotation=[])
        after = plc.operation(last, _OWNER)
        assert _judge((0, _FIRST), (1, last), (2, after)) == [None, None, Reason.SIGNATURE_INVALID]

    def test_the_predecessor_must_be_in_the_log(self) -> None:
        assert _judge((0, _FIRST), (1, _TAKEN_FURTHER)) == [None, Reason.PLC_PREV_UNKNOWN]

    def test_what_is_refused_is_no_predecessor(self) -> None:
        forged = plc.operation(_FIRST, _STRANGER)
        after = plc.operation(forged, _OWNER)
        assert _judge((0, _FIRST), (1, forged), (2, after)) == [
            None,
            Reason.SIGNATURE_INVALID,
            Reason.PLC_PREV_UNKNOWN,
        ]

    def test_nothing_follows_a_tombstone(self) -> None:
        tombstone = plc.tombstone(_FIRST)
        after = plc.operation(tombstone)
        assert _judge((0, _FIRST), (1, tombstone), (2, after)) == [
            None,
            None,
            Reason.PLC_TOMBSTONED,
        ]

    def test_times_need_not_rise(self) -> None:
        """Two machines of the directory may disagree by milliseconds."""
        assert _judge((1, _FIRST), (0.9, _STOLEN)) == [None, None]


class TestNullification:
    """Spec: L-07, L-08."""

    def test_a_more_powerful_key_makes_all_that_followed_void(self) -> None:
        log = [(0.0, _FIRST), (1.0, _STOLEN), (2.0, _TAKEN_FURTHER), (3.0, _RECOVERED)]
        assert _judge(*log) == [None, 3, 3, None]

    def test_also_a_tombstone(self) -> None:
        tombstone = plc.tombstone(_FIRST, _SERVER)
        assert _judge((0, _FIRST), (1, tombstone), (2, _RECOVERED)) == [None, 2, None]

    def test_a_tombstone_may_do_it(self) -> None:
        tombstone = plc.tombstone(_FIRST, _OWNER)
        assert _judge((0, _FIRST), (1, _STOLEN), (2, tombstone)) == [None, 2, None]

    @pytest.mark.parametrize(
        ("first_signer", "second_signer", "expected"),
        [
            (_SERVER, _OWNER, None),
            (_SERVER, _SERVER, Reason.PLC_KEY_PRIORITY),
            (_OWNER, _OWNER, Reason.PLC_KEY_PRIORITY),
            (_OWNER, _SERVER, Reason.PLC_KEY_PRIORITY),
            (_SERVER, _STRANGER, Reason.SIGNATURE_INVALID),
        ],
    )
    def test_the_keys_of_the_fork_decide(
        self, first_signer: Signer, second_signer: Signer, expected: Reason | None
    ) -> None:
        # Who signed the fork's origin, and whom the branches allow, is of no account.
        disputed = plc.operation(_FIRST, first_signer, rotation=[_STRANGER])
        fork = plc.operation(_FIRST, second_signer, alsoKnownAs=[])
        assert _judge((0, _FIRST), (1, disputed), (2, fork))[2] == expected

    def test_a_key_named_twice_has_its_first_place(self) -> None:
        first = plc.operation(signer=_OWNER, rotation=[_OWNER, _SERVER, _OWNER])
        by_server = plc.operation(first, _SERVER)
        by_owner = plc.operation(first, _OWNER, alsoKnownAs=[])
        judged = judge_log(plc.did_of(first), plc.log_of(first, by_server, by_owner))
        assert [isinstance(entry, Valid) for entry in judged] == [True] * 3
        judged = judge_log(plc.did_of(first), plc.log_of(first, by_owner, by_server))
        assert isinstance(judged[2], Refused)

    def test_an_unusable_key_keeps_its_place(self) -> None:
        first = plc.operation(rotationKeys=[_ED25519, SIGNER.key.did_key()])
        following = plc.operation(first)
        again = plc.operation(first, alsoKnownAs=[])
        judged = judge_log(plc.did_of(first), plc.log_of(first, following, again))
        assert isinstance(judged[1], Valid)
        assert isinstance(judged[2], Refused)
        assert judged[2].error.reason is Reason.PLC_KEY_PRIORITY

    @pytest.mark.parametrize(
        ("hour", "expected"),
        [
            (1, Reason.PLC_TIME_ORDER),
            (2, Reason.PLC_TIME_ORDER),
            (2.001, None),
            (73, None),
            (73.000001, Reason.PLC_TOO_LATE),
            (100, Reason.PLC_TOO_LATE),
        ],
    )
    def test_in_time_means_within_72_hours_of_the_first_made_void(
        self, hour: float, expected: Reason | None
    ) -> None:
        log = [(0.0, _FIRST), (1.0, _STOLEN), (2.0, _TAKEN_FURTHER), (hour, _RECOVERED)]
        assert _judge(*log)[3] == expected

    def test_a_fork_does_not_reopen_what_it_closed(self) -> None:
        """The second fork has to beat the first, not what that one made void."""
        third = Signer(secret=3)
        first = plc.operation(rotation=[_OWNER, _SERVER, third])
        disputed = plc.operation(first, third)
        fork = plc.operation(first, _SERVER)
        same_again = plc.operation(first, _SERVER, alsoKnownAs=[])
        higher = plc.operation(first, _OWNER)
        judged = judge_log(
            plc.did_of(first), plc.log_of(first, disputed, fork, same_again, higher)
        )
        assert isinstance(judged[1], Valid)
        assert judged[1].nullified_by == 2
        assert isinstance(judged[2], Valid)
        assert judged[2].nullified_by == 4
        assert isinstance(judged[3], Refused)
        assert judged[3].error.reason is Reason.PLC_KEY_PRIORITY

    def test_nothing_follows_what_is_void(self) -> None:
        after = plc.operation(_STOLEN, _OWNER)
        log = [(0.0, _FIRST), (1.0, _STOLEN), (2.0, _RECOVERED), (3.0, after)]
        assert _judge(*log) == [None, 2, None, Reason.PLC_PREV_NULLIFIED]

    def test_what_the_directory_says_of_it_is_noted_and_not_believed(self) -> None:
        """Spec: L-15."""
        log = [
            plc.entry(0, _FIRST, _DID, nullified=True),
            plc.entry(1, _STOLEN, _DID, nullified=False),
            plc.entry(2, _RECOVERED, _DID),
        ]
        judged = judge_log(_DID, log)
        assert all(isinstance(entry, Valid) for entry in judged)
        assert [
            (entry.logged.is_nullified, entry.nullified_by)
            for entry in judged
            if isinstance(entry, Valid)
        ] == [(True, None), (False, 2), (False, None)]


class TestEntries:
    @pytest.mark.parametrize(
        "entry",
        [
            None,
            [],
            {},
            {"message": "DID not available"},
            plc.entry(0, _FIRST, _DID) | {"did": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"},
            plc.entry(0, _FIRST, _DID, createdAt=None),
            plc.entry(0, _FIRST, _DID, createdAt="yesterday"),
            plc.entry(0, _FIRST, _DID, nullified=0),
            plc.entry(0, _FIRST, _DID, nullified="false"),
        ],
    )
    def test_what_is_no_entry_is_refused(self, entry: object) -> None:
        (judged,) = judge_log(_DID, [entry])
        assert isinstance(judged, Refused)
        assert judged.logged is None
        assert judged.error.reason is Reason.PLC_ENTRY

    @pytest.mark.parametrize(
        "cid",
        [None, "", plc.cid_text(_RECOVERED), plc.cid_text(_FIRST)[1:]],
        ids=["none", "empty", "of another operation", "cut"],
    )
    def test_the_cid_is_the_hash_of_the_operation(self, cid: object) -> None:
        """Spec: L-04."""
        (judged,) = judge_log(_DID, [plc.entry(0, _FIRST, _DID, cid=cid)])
        assert isinstance(judged, Refused)
        assert judged.error.reason is Reason.PLC_CID_MISMATCH

    def test_the_export_does_not_say_what_is_void(self) -> None:
        """Spec: L-12, L-13."""
        exported: plc.Json = plc.entry(0, _FIRST, _DID) | {"type": "sequenced_op", "seq": 7}
        del exported["nullified"]
        (judged,) = judge_log(_DID, [exported])
        assert isinstance(judged, Valid)
        assert judged.logged.is_nullified is None

    @pytest.mark.parametrize("log", [None, {}, "log", [], {"message": "DID not registered"}])
    def test_a_log_is_a_list_with_something_in_it(self, log: object) -> None:
        error = refusal(lambda: judge_log(_DID, log))
        assert (type(error), error.reason, error.did) == (PlcError, Reason.IDENTITY_LOG, _DID)


class TestPruning:
    def test_what_can_be_followed_no_more_is_left_out(self) -> None:
        chain: Chain = ()
        lengths = []
        previous: plc.Json | None = None
        for hour in (0, 1, 72, 73, 73.5, 200):
            signed = _FIRST if previous is None else plc.operation(previous)
            created_us = _ZERO_US + int(hour * _HOUR_US)
            chain, _ = follow(_DID, chain, parse_operation(signed), created_us)
            chain = prune(chain)
            lengths.append(len(chain))
            previous = signed
        # After 73:00 that of 1:00 cannot be made void any more; the last one always can.
        assert lengths == [1, 2, 3, 3, 4, 2]


def _accounts(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def _check_recorded(account: dict[str, Any]) -> None:
    """Every change of a recorded log takes effect, and the last one agrees with the document."""
    did, entries = account["did"], account["plc_audit_log"]
    history = verify_audit_log(did, entries)
    assert len(history) == len(entries)
    assert key_at(history, 0) == history[0].signing_key
    for change in history:
        assert key_at(history, change.created_us) == change.signing_key
    last = judge_log(did, entries)[-1]
    assert isinstance(last, Valid)
    operation = last.logged.operation
    if "id" in account["document"]:
        identity = parse_document(did, account["document"])
        assert identity.signing_key is not None
        assert (operation.signing_key, operation.pds, operation.handle) == (
            identity.signing_key,
            identity.pds,
            identity.handle,
        )
    else:
        assert (operation.signing_key, operation.pds, operation.handle) == (None, None, None)


def test_recorded_logs_agree_with_their_documents(capture_folder: Path) -> None:
    accounts = _accounts(capture_folder / "identities.jsonl")
    with_log = [account for account in accounts if "plc_audit_log" in account]
    assert len(with_log) == len(accounts) - 1  # all but the did:web account
    assert max(len(account["plc_audit_log"]) for account in with_log) == 4
    for account in with_log:
        _check_recorded(account)


@pytest.mark.shared
def test_a_larger_recording_agrees_with_its_documents(shared_data: Path) -> None:
    accounts = _accounts(shared_data / "pds-corpus" / "identities.jsonl")
    with_log = [account for account in accounts if "plc_audit_log" in account]
    assert len(with_log) == 34
    for account in with_log:
        _check_recorded(account)
