"""Keys from a file of identities, for verifying a capture without a network."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import plc
from support.repo import OTHER_SIGNER

from pipelines.atproto.errors import IdentityError, Reason
from pipelines.atproto.keys import parse_multikey
from pipelines.atproto.syntax import Did, parse_datetime
from pipelines.errors import ConfigError
from pipelines.identity.offline import OfflineKeys

_DID = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
_KEY = "zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc"
_FORMER_KEY = "zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo"


def _document(multikey: str = _KEY) -> dict[str, Any]:
    method = {
        "id": "#atproto",
        "type": "Multikey",
        "controller": _DID,
        "publicKeyMultibase": multikey,
    }
    return {"id": _DID, "verificationMethod": [method]}


def _load(folder: Path, *lines: object) -> OfflineKeys:
    path = folder / "identities.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return OfflineKeys.load(path)


def _reason_of(keys: OfflineKeys, did: Did) -> Reason:
    with pytest.raises(IdentityError) as refusal:
        keys.current_key(did)
    return refusal.value.reason


def test_the_current_key_is_that_of_the_document(tmp_path: Path) -> None:
    keys = _load(tmp_path, {"did": _DID, "document": _document()})
    assert keys.current_key(_DID) == parse_multikey(_KEY)
    assert keys.refreshed_key(_DID, None) is None
    assert keys.key_at(_DID, 0) is None


def test_the_key_at_a_time_is_that_of_the_audit_log(tmp_path: Path) -> None:
    first = plc.with_key(f"did:key:{_FORMER_KEY}")
    did = plc.did_of(first)
    log = plc.log_of(first, plc.with_key(f"did:key:{_KEY}", first))
    keys = _load(tmp_path, {"did": did, "document": _document(), "plc_audit_log": log})
    change_us = parse_datetime(log[1]["createdAt"])
    assert keys.key_at(did, change_us - 1) == parse_multikey(_FORMER_KEY)
    assert keys.key_at(did, change_us) == parse_multikey(_KEY)


def test_a_log_with_an_invented_operation_gives_no_key(tmp_path: Path) -> None:
    """Spec: L-15: whoever serves a log may leave something out, but make nothing up."""
    first = plc.operation()
    did = plc.did_of(first)
    invented = plc.operation(first, OTHER_SIGNER, verificationMethods={"atproto": _KEY})
    log = plc.log_of(first, invented)
    keys = _load(tmp_path, {"did": did, "document": _document(), "plc_audit_log": log})
    with pytest.raises(IdentityError) as refusal:
        keys.key_at(did, parse_datetime(log[1]["createdAt"]))
    assert refusal.value.reason is Reason.SIGNATURE_INVALID


def test_an_unknown_did_does_not_exist(tmp_path: Path) -> None:
    keys = _load(tmp_path)
    assert _reason_of(keys, _DID) is Reason.IDENTITY_NOT_FOUND
    with pytest.raises(IdentityError):
        keys.refreshed_key(_DID, None)
    with pytest.raises(IdentityError):
        keys.key_at(_DID, 0)


def test_a_bad_document_or_log_fails_its_own_account_only(tmp_path: Path) -> None:
    other = Did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
    keys = _load(
        tmp_path,
        {"did": other, "document": {"message": "DID not available"}, "plc_audit_log": []},
        {"did": _DID, "document": _document()},
    )
    for _ in range(2):
        assert _reason_of(keys, other) is Reason.IDENTITY_DOCUMENT
        with pytest.raises(IdentityError) as refusal:
            keys.key_at(other, 0)
        assert refusal.value.reason is Reason.IDENTITY_LOG
    assert keys.current_key(_DID) == parse_multikey(_KEY)


def test_a_document_without_key_is_told_apart(tmp_path: Path) -> None:
    keys = _load(tmp_path, {"did": _DID, "document": {"id": _DID}})
    assert _reason_of(keys, _DID) is Reason.IDENTITY_NO_KEY


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ("{", "not JSON"),
        ('{"did": "x"} trailing', "not JSON"),
        ("\xff", "not JSON"),
        ("[]", "did and document"),
        ("5", "did and document"),
        ('{"did": "did:plc:abc"}', "did and document"),
        ('{"document": {}}', "the member did is not a DID"),
        ('{"did": "alice.example.com", "document": {}}', "the member did is not a DID"),
        (f'{{"did": "{_DID}", "document": {{}}}}', "has a line already"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, bad: str, complaint: str) -> None:
    path = tmp_path / "identities.jsonl"
    good = json.dumps({"did": _DID, "document": _document()})
    path.write_bytes(f"{good}\n\n{bad}\n".encode("latin-1"))
    with pytest.raises(ConfigError) as refusal:
        OfflineKeys.load(path)
    assert f"{path}, line 3: " in str(refusal.value)
    assert complaint in str(refusal.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.jsonl", tmp_path):
        with pytest.raises(ConfigError) as refusal:
            OfflineKeys.load(path)
        assert str(path) in str(refusal.value)


def test_a_recorded_file_is_read(capture_folder: Path) -> None:
    path = capture_folder / "identities.jsonl"
    dids = [Did(json.loads(line)["did"]) for line in path.read_bytes().splitlines()]
    keys = OfflineKeys.load(path)
    without_key = []
    for did in dids:
        try:
            keys.current_key(did)
        except IdentityError:
            without_key.append(did)
            assert keys.key_at(did, 0) is not None
    assert len(without_key) == 1  # the DID that was given up
