"""What an import says: messages of `identities`, and its progress."""

import json
from typing import Any

import pytest
from support import plc
from support.repo import SIGNER

from pipelines.identity.entries import Origin, parse_entry
from pipelines.identity.operation import parse_operation
from pipelines.kafka.partition import partition_for
from pipelines.kafka.topics import validator
from pipelines.mirror.intake import Change
from pipelines.mirror.outputs import entry_of, identity_message
from pipelines.mirror.progress import Progress

_FIRST = plc.operation()
_DID = plc.did_of(_FIRST)
_NOW_US = 1_800_000_000_000_000
_URL = "https://plc.directory"


def _message(signed: plc.Json, created_us: int = 5, seq: int | None = 7) -> dict[str, Any]:
    change = Change(parse_operation(signed), created_us, seq)
    message = identity_message(entry_of(_DID, change, _URL, _NOW_US), "t.identities", 5)
    assert (message.topic, message.partition) == ("t.identities", partition_for(_DID, 5))
    assert (message.key, message.headers) == (_DID.encode(), [("did", _DID.encode())])
    assert message.timestamp_ms == _NOW_US // 1000
    assert message.value is not None
    fields: dict[str, Any] = json.loads(message.value)
    validator("identities", 1).validate(fields)
    assert parse_entry(message.value).did == _DID
    return fields


def test_an_operation_becomes_an_identity() -> None:
    assert _message(_FIRST) == {
        "did": _DID,
        "signing_key": SIGNER.key.did_key(),
        "pds": "https://pds.example.com",
        "handle": "alice.example.com",
        "reason": None,
        "origin": Origin.OPERATION,
        "source": _URL,
        "as_of_us": 5,
        "seq": 7,
        "fetched_us": _NOW_US,
        "stale": False,
    }


@pytest.mark.parametrize(
    ("signed", "reason"),
    [
        (plc.tombstone(_FIRST), "identity.not_found"),
        (plc.operation(verificationMethods={}), "identity.no_key"),
    ],
    ids=["given up", "no key"],
)
def test_an_account_without_key_says_why(signed: plc.Json, reason: str) -> None:
    fields = _message(signed, seq=None)
    assert (fields["signing_key"], fields["reason"], fields["seq"]) == (None, reason, None)


@pytest.mark.parametrize(("created_us", "as_of_us"), [(-1, 0), (_NOW_US + 1, _NOW_US)])
def test_impossible_times_do_not_outlive_true_ones(created_us: int, as_of_us: int) -> None:
    """Spec: L-15: a directory's times are not signed, and readers keep the newest."""
    assert _message(_FIRST, created_us)["as_of_us"] == as_of_us


def test_progress_tells_rate_and_rest() -> None:
    progress = Progress(read_count=30_000, elapsed_s=10, start_share=0.2, share=0.3)
    assert progress.per_s == 3_000
    assert progress.left_s == pytest.approx(70)
    assert str(progress) == "30,000 operations, 3,000/s, 30.0%, 0:01:10 left"


def test_progress_says_only_what_is_known() -> None:
    assert str(Progress(0, 0, None, None)) == "0 operations, 0/s"
    assert str(Progress(5, 1, 0.5, 0.5)) == "5 operations, 5/s, 50.0%"
    assert Progress(5, 1, None, 0.5).left_s is None
