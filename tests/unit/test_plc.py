"""PLC audit logs: which key was current when (spec: E-10, L-01, L-02, L-06, L-10)."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.atproto import keys
from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.syntax import Did, parse_datetime
from pipelines.identity.documents import parse_document
from pipelines.identity.plc import key_at, parse_audit_log

_DID = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
# Public keys from published vectors.
_FIRST = "did:key:zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc"
_SECOND = "did:key:zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo"
_ED25519 = "did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH"

_HOUR_US = 3_600_000_000
_ZERO_US = parse_datetime("2026-01-01T00:00:00.000Z")


def _entry(hour: int, operation: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "did": _DID,
        "operation": operation,
        "cid": "bafyreidmpbom3dmalvgzkdmxovxf6ksnogqdirxeofjyyygkpqc62ks6gy",
        "nullified": False,
        "createdAt": f"2026-01-01T{hour:02}:00:00.000Z",
    } | changes


def _operation(signing_key: object) -> dict[str, Any]:
    return {"type": "plc_operation", "verificationMethods": {"atproto": signing_key}}


_TOMBSTONE = {"type": "plc_tombstone", "prev": "bafy", "sig": ""}


def _key_at(hour: float, *entries: dict[str, Any]) -> keys.VerifyingKey | None:
    log = parse_audit_log(_DID, list(entries))
    return key_at(log, _ZERO_US + int(hour * _HOUR_US))


def test_a_key_is_current_from_its_operation_on() -> None:
    log = [_entry(1, _operation(_FIRST)), _entry(2, _operation(_SECOND))]
    first, second = keys.parse_did_key(_FIRST), keys.parse_did_key(_SECOND)
    assert _key_at(1, *log) == first
    assert _key_at(1.999, *log) == first
    assert _key_at(2, *log) == second
    assert _key_at(1_000, *log) == second


def test_before_the_first_operation_its_own_key_counts() -> None:
    """Servers sign an account's first commit before the directory has heard of it."""
    log = [_entry(1, _operation(_FIRST)), _entry(2, _operation(_SECOND))]
    assert _key_at(0, *log) == keys.parse_did_key(_FIRST)


def test_an_operation_that_was_made_void_never_counted() -> None:
    """Spec: L-07."""
    stolen = _entry(2, _operation(_SECOND), nullified=True)
    log = [_entry(1, _operation(_FIRST)), stolen, _entry(3, _operation(_FIRST))]
    assert _key_at(2.5, *log) == keys.parse_did_key(_FIRST)


def test_a_tombstone_leaves_no_key() -> None:
    """Spec: E-10, L-08."""
    log = [_entry(1, _operation(_FIRST)), _entry(2, _TOMBSTONE)]
    assert _key_at(1.5, *log) == keys.parse_did_key(_FIRST)
    assert _key_at(2, *log) is None


def test_the_legacy_first_operation_is_read() -> None:
    """Spec: L-02, L-06."""
    legacy = {"type": "create", "signingKey": _FIRST, "recoveryKey": _SECOND, "prev": None}
    log = [_entry(1, legacy), _entry(2, _operation(_SECOND))]
    assert _key_at(1, *log) == keys.parse_did_key(_FIRST)
    assert _key_at(2, *log) == keys.parse_did_key(_SECOND)


@pytest.mark.parametrize("unusable", [_ED25519, "did:key:", "", None, 5])
def test_an_unusable_key_is_no_key_from_then_on(unusable: object) -> None:
    """Spec: L-10."""
    log = [_entry(1, _operation(_FIRST)), _entry(2, _operation(unusable))]
    assert _key_at(2, *log) is None


def test_an_account_without_signing_key_has_none() -> None:
    assert _key_at(1, _entry(1, {"type": "plc_operation", "verificationMethods": {}})) is None


@pytest.mark.parametrize(
    "log",
    [
        None,
        {},
        "log",
        [],
        [None],
        [[]],
        [{}],
        [_entry(1, _operation(_FIRST), did="did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")],
        [_entry(1, _operation(_FIRST), nullified=True)],
        [_entry(1, _operation(_FIRST), nullified=0)],
        [_entry(1, _operation(_FIRST)) | {"operation": None}],
        [_entry(1, _operation(_FIRST), createdAt=None)],
        [_entry(1, _operation(_FIRST), createdAt="yesterday")],
        [_entry(1, {"type": "plc_operation"})],
        [_entry(1, {"type": "plc_operation", "verificationMethods": []})],
        [_entry(1, {"type": "create"})],
        [_entry(1, {"type": "plc_surprise"})],
        [_entry(1, {})],
        [_entry(1, _operation(_FIRST)), {"message": "DID not available"}],
    ],
    ids=repr,
)
def test_what_is_not_an_audit_log_is_refused(log: object) -> None:
    with pytest.raises(IdentityError) as refusal:
        parse_audit_log(_DID, log)
    assert refusal.value.reason is Reason.IDENTITY_LOG
    assert refusal.value.did == _DID


def _accounts(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def _check_recorded(account: dict[str, Any]) -> None:
    """Every change of a recorded log takes effect, and the last one agrees with the document."""
    did, entries = account["did"], account["plc_audit_log"]
    log = parse_audit_log(did, entries)
    assert len(log) == len(entries)
    assert key_at(log, 0) == log[0].signing_key
    for change in log:
        assert key_at(log, change.created_us) == change.signing_key
    last_key = key_at(log, log[-1].created_us + _HOUR_US)
    if "id" in account["document"]:
        assert last_key == parse_document(did, account["document"]).require_key()
    else:
        assert last_key is None


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


@pytest.mark.shared
def test_published_valid_logs_are_read(shared_data: Path) -> None:
    """Spec: L-02, L-07, L-08; VECTORS 4."""
    paths = sorted((shared_data / "plc-interop" / "audit_log" / "valid").glob("*.json"))
    assert len(paths) == 10
    with_key = set()
    for path in paths:
        entries = json.loads(path.read_bytes())
        log = parse_audit_log(entries[0]["did"], entries)
        assert len(log) == sum(not entry["nullified"] for entry in entries)
        if key_at(log, log[-1].created_us) is not None:
            with_key.add(path.stem)
    # The others are made of operations without any verification method.
    assert with_key == {"log_bskyapp", "log_bnewbold_robocracy", "log_legacy_dholms"}
