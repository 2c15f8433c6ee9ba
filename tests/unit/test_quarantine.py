"""What a quarantined message says of itself, and which ones somebody asks for."""

from dataclasses import replace

import pytest

from pipelines.atproto.errors import Reason
from pipelines.kafka.messages import Headers, InputMessage
from pipelines.kafka.quarantine import (
    Origin,
    Quarantined,
    Selection,
    parse_quarantined,
    quarantine_headers,
)

_DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
_RECEIVED_MS = 1_790_000_000_000
_FRAME_HEADERS: Headers = [
    ("host", b"relay.example"),
    ("seq", b"17"),
    ("kind", b"commit"),
    ("received_us", str(_RECEIVED_MS * 1000).encode()),
]
_FRAME = InputMessage(
    "atproto.frames", 3, 99, _RECEIVED_MS, _DID.encode(), b"frame", _FRAME_HEADERS
)


def _in_quarantine(headers: Headers, key: bytes = _DID.encode()) -> InputMessage:
    return InputMessage("atproto.quarantine", 3, 5, _RECEIVED_MS, key, b"frame", headers)


def _found() -> Quarantined:
    headers = quarantine_headers(Reason.MST_KEY_ORDER, "explode", "keys not sorted", _FRAME)
    return parse_quarantined(_in_quarantine(_FRAME_HEADERS + headers))


def test_what_a_worker_writes_is_read_again() -> None:
    found = _found()
    assert found == Quarantined(
        partition=3,
        offset=5,
        received_ms=_RECEIVED_MS,
        account=_DID,
        host="relay.example",
        seq=17,
        kind="commit",
        reason="mst.key_order",
        stage="explode",
        detail="keys not sorted",
        origin=Origin("atproto.frames", 3, 99),
        attempts_count=1,
        version=found.version,
        size_bytes=5,
    )
    assert found.version
    assert str(found.origin) == "atproto.frames:3:99"


def test_what_the_bridge_could_not_read_has_neither_number_nor_origin() -> None:
    headers = quarantine_headers(Reason.FRAME_NOT_CBOR, "bridge", "not CBOR")
    found = parse_quarantined(_in_quarantine([_FRAME_HEADERS[0], *headers], b"relay.example"))
    assert (found.account, found.host) == ("relay.example", "relay.example")
    assert (found.seq, found.kind, found.origin) == (None, None, None)


def test_our_headers_count_and_not_those_that_a_message_brought() -> None:
    """A message that was put in again has a second set of them."""
    first = quarantine_headers(Reason.FRAME_OP, "explode", "once", _FRAME)
    second = quarantine_headers(Reason.MST_LAYER, "explode", "twice", _FRAME)
    assert parse_quarantined(_in_quarantine(first + second)).detail == "twice"


@pytest.mark.parametrize(
    "change",
    [
        {"q.reason": None},
        {"q.stage": None},
        {"q.detail": None},
        {"q.attempts": None},
        {"q.version": None},
        {"q.offset": None},
        {"q.partition": b"three"},
        {"q.attempts": b""},
        {"seq": b"\xff"},
    ],
    ids=str,
)
def test_a_message_that_we_did_not_write_is_told_apart(change: dict[str, bytes | None]) -> None:
    headers = _FRAME_HEADERS + quarantine_headers(Reason.FRAME_OP, "explode", "why", _FRAME)
    parse_quarantined(_in_quarantine(headers))
    [(name, value)] = change.items()
    changed = [(other, old) for other, old in headers if other != name]
    if value is not None:
        changed.append((name, value))
    with pytest.raises(ValueError, match=r"."):
        parse_quarantined(_in_quarantine(changed))


@pytest.mark.parametrize(
    ("selection", "is_wanted"),
    [
        (Selection(), True),
        (Selection(frozenset({"mst.key_order"})), True),
        (Selection(frozenset({"mst"})), True),
        pytest.param(Selection(frozenset({"frame", "mst"})), True, id="two reasons"),
        (Selection(frozenset({"mst.key"})), False),
        (Selection(frozenset({"key"})), False),
        (Selection(account=_DID), True),
        (Selection(account="did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), False),
        (Selection(since_ms=_RECEIVED_MS), True),
        (Selection(since_ms=_RECEIVED_MS + 1), False),
        (Selection(until_ms=_RECEIVED_MS + 1), True),
        (Selection(until_ms=_RECEIVED_MS), False),
        (Selection(frozenset({"mst"}), _DID, _RECEIVED_MS, _RECEIVED_MS), False),
    ],
    ids=str,
)
def test_a_selection_has_what_fits_all_of_it(selection: Selection, is_wanted: bool) -> None:
    assert selection.has(_found()) is is_wanted


def test_a_reason_of_another_version_is_read_like_any_other() -> None:
    found = replace(_found(), reason="mst.balance")
    assert Selection(frozenset({"mst"})).has(found)
    assert not Selection(frozenset({"mst.key_order"})).has(found)
