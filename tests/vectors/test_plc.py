"""The published audit logs of did:plc, valid and invalid (spec: L-03 to L-09; VECTORS 4)."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.repo import refusal

from pipelines.atproto.errors import PlcError, Reason
from pipelines.identity.plc import Refused, Valid, judge_log, verify_audit_log

pytestmark = pytest.mark.shared

# The operations of each log, with the place of the one that makes it void.
_VALID: dict[str, list[int | None]] = {
    "log_bnewbold_robocracy": [None] * 2,
    "log_bskyapp": [None] * 2,
    "log_duplicate_rotation_keys": [None],
    "log_empty_rotation_keys": [None] * 2,
    "log_legacy_dholms": [None] * 5,
    "log_nullification": [None, 2, None],
    "log_nullification_at_exactly_72h": [None, None, 3, None],
    "log_nullification_nontrivial": [None, None, 7, 7, 5, 7, 7, None],
    "log_nullified_tombstone": [None, None, 3, None],
    "log_tombstone": [None] * 2,
}
# The place of the bad operation, the reason, and a word of the detail.
_INVALID: dict[str, tuple[int, Reason, str]] = {
    "log_invalid_nullification_reused_key": (2, Reason.PLC_KEY_PRIORITY, "not more powerful"),
    "log_invalid_nullification_too_slow": (2, Reason.PLC_TOO_LATE, "older than 72 hours"),
    "log_invalid_sig_b64_newline": (0, Reason.SIGNATURE_ENCODING, "not base64url"),
    "log_invalid_sig_b64_padding_bits": (0, Reason.SIGNATURE_ENCODING, "bits that must be zero"),
    "log_invalid_sig_b64_padding_chars": (0, Reason.SIGNATURE_ENCODING, "padded with ="),
    # A DER signature that happens to have 64 bytes: it must not be read as DER.
    "log_invalid_sig_der": (0, Reason.SIGNATURE_INVALID, "no key that may sign it did"),
    "log_invalid_sig_k256_high_s": (0, Reason.SIGNATURE_HIGH_S, "upper half"),
    "log_invalid_sig_p256_high_s": (0, Reason.SIGNATURE_HIGH_S, "upper half"),
    "log_invalid_update_nullified": (4, Reason.PLC_PREV_NULLIFIED, "is void"),
    "log_invalid_update_tombstoned": (2, Reason.PLC_TOMBSTONED, "follows a tombstone"),
}
# The others are made of operations without any verification method, or end in a tombstone.
_WITH_KEY = {"log_bskyapp", "log_bnewbold_robocracy", "log_legacy_dholms"}


def _load(shared_data: Path, kind: str, name: str) -> list[dict[str, Any]]:
    path = shared_data / "plc-interop" / "audit_log" / kind / f"{name}.json"
    log: list[dict[str, Any]] = json.loads(path.read_bytes())
    return log


@pytest.mark.parametrize("kind", ["valid", "invalid"])
def test_every_published_log_is_expected_here(shared_data: Path, kind: str) -> None:
    paths = (shared_data / "plc-interop" / "audit_log" / kind).glob("*.json")
    assert {path.stem for path in paths} == set(_VALID if kind == "valid" else _INVALID)


@pytest.mark.parametrize("name", _VALID)
def test_a_valid_log_is_accepted(shared_data: Path, name: str) -> None:
    log = _load(shared_data, "valid", name)
    judged = judge_log(log[0]["did"], log)
    assert [entry.nullified_by for entry in judged if isinstance(entry, Valid)] == _VALID[name]
    assert [place is not None for place in _VALID[name]] == [entry["nullified"] for entry in log]
    history = verify_audit_log(log[0]["did"], log)
    assert len(history) == _VALID[name].count(None)
    assert (history[-1].signing_key is not None) == (name in _WITH_KEY)


@pytest.mark.parametrize("name", _INVALID)
def test_an_invalid_log_is_refused_for_the_right_reason(shared_data: Path, name: str) -> None:
    log = _load(shared_data, "invalid", name)
    place, reason, word = _INVALID[name]
    judged = judge_log(log[0]["did"], log)
    assert [isinstance(entry, Refused) for entry in judged] == [
        position == place for position in range(len(log))
    ]
    error = refusal(lambda: verify_audit_log(log[0]["did"], log))
    assert (type(error), error.reason) == (PlcError, reason)
    assert error.detail.startswith(f"operation {place}: ")
    assert word in error.detail
