"""The messages of one transaction of the bridge."""

import json
from typing import Any

import pytest

from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import Kind
from pipelines.atproto.syntax import Did
from pipelines.bridge.gaps import Gap, GapReason, Place
from pipelines.bridge.intake import Duplicate, Entry, Publish, Quarantine, Skip
from pipelines.bridge.messages import (
    Batch,
    Outputs,
    StoredCursor,
    StreamPosition,
    batch_of,
    cursors_of,
    epochs_of,
    gaps_of,
    parse_cursor,
)
from pipelines.bridge.upstream import Handed, Origin
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.topics import registry, validator

DID = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
OTHER_DID = Did("did:web:example.example")
HOST = "relay.example:2583"
TIME = "2026-09-21T14:13:20.000Z"
RECEIVED_US = 1_790_000_000_412_337
UPDATED_US = RECEIVED_US + 5

ORIGIN = Origin(HOST, generation=3)
OTHER_ORIGIN = Origin("other.example", generation=1)
OUTPUTS = Outputs("p.frames", "p.quarantine", "p.cursors", "p.epochs", "p.gaps", 4, 4)


def publish(seq: int, did: Did = DID, *, received_us: int = RECEIVED_US) -> Publish:
    return Publish(b"frame %d" % seq, did, seq, Kind.COMMIT, TIME, received_us)


def batch(*entries: Entry) -> Batch:
    return batch_of([Handed(ORIGIN, entry) for entry in entries], OUTPUTS)


def checked_value(topic: str, message: OutputMessage) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(message.value or b"")
    validator(topic, 1).validate(value)
    return value


def header_names(topic: str, *, optional: bool = True) -> list[str]:
    headers = registry().specs[topic].headers
    return [header.name for header in headers if optional or not header.is_optional]


@pytest.mark.parametrize("did", [DID, OTHER_DID])
def test_a_frame_is_keyed_and_placed_by_its_did(did: Did) -> None:
    """spec: F-31"""
    (frame,) = batch(publish(7, did)).frames
    assert frame == OutputMessage(
        topic="p.frames",
        partition=partition_for(did, 4),
        key=did.encode(),
        value=b"frame 7",
        headers=[
            ("host", HOST.encode()),
            ("seq", b"7"),
            ("kind", b"commit"),
            ("received_us", b"1790000000412337"),
        ],
        timestamp_ms=1_790_000_000_412,
    )
    assert [name for name, _ in frame.headers] == header_names("frames", optional=False)


def test_a_frame_of_a_server_of_accounts_says_so_and_one_of_a_relay_says_nothing() -> None:
    """spec: J-10"""
    server = ORIGIN._replace(is_pds=True)
    relayed, direct = batch_of(
        [Handed(ORIGIN, publish(7)), Handed(server, publish(8))], OUTPUTS
    ).frames
    assert [name for name, _ in relayed.headers] == header_names("frames", optional=False)
    assert [name for name, _ in direct.headers] == header_names("frames")
    assert dict(direct.headers)["upstream"] == b"pds"


def test_what_cannot_be_read_is_keyed_by_the_host() -> None:
    found = batch(Quarantine(b"junk", Reason.FRAME_NOT_CBOR, "because", RECEIVED_US))
    (message,) = found.quarantined
    assert (message.topic, message.key, message.value) == ("p.quarantine", HOST.encode(), b"junk")
    assert message.partition == partition_for(HOST, 4)
    assert message.timestamp_ms == RECEIVED_US // 1000
    headers = dict(message.headers)
    assert headers["host"] == HOST.encode()
    assert headers["received_us"] == b"%d" % RECEIVED_US
    assert headers["q.reason"] == b"frame.not_cbor"
    assert headers["q.stage"] == b"bridge"
    assert headers["q.detail"] == b"because"
    assert set(header_names("quarantine", optional=False)) <= headers.keys()
    assert headers.keys() <= set(header_names("quarantine"))


def test_what_cannot_be_read_moves_no_cursor() -> None:
    found = batch(Quarantine(b"junk", Reason.FRAME_NOT_CBOR, "because", RECEIVED_US))
    assert (found.positions, found.frames) == ({}, [])


@pytest.mark.parametrize("last", [Skip, Duplicate])
def test_the_cursor_is_that_of_the_last_message(last: type[Skip | Duplicate]) -> None:
    """spec: F-28, F-29"""
    found = batch(publish(7), last(9, None, RECEIVED_US + 1))
    (cursor,) = cursors_of(found, OUTPUTS, UPDATED_US)
    assert (cursor.topic, cursor.partition, cursor.key) == ("p.cursors", 0, HOST.encode())
    assert checked_value("cursors", cursor) == {
        "host": HOST,
        "seq": 9,
        "generation": 3,
        "time": None,
        "updated_us": UPDATED_US,
    }
    assert found.positions == {ORIGIN: StreamPosition(9, None, RECEIVED_US + 1)}


def test_a_skipped_message_without_number_moves_no_cursor() -> None:
    assert batch(Skip(None, None, RECEIVED_US)).positions == {}


def test_an_epoch_says_what_came_and_where_it_ends() -> None:
    found = batch(
        publish(7),
        publish(8, OTHER_DID, received_us=RECEIVED_US + 1_000_000),
        Skip(12, None, RECEIVED_US),
    )
    (epoch,) = epochs_of(found, OUTPUTS, {3: 33, 2: 22, 1: 11, 0: 0})
    assert (epoch.topic, epoch.partition, epoch.key) == ("p.epochs", 0, HOST.encode())
    assert epoch.timestamp_ms == (RECEIVED_US + 1_000_000) // 1000
    assert checked_value("epochs", epoch) == {
        "host": HOST,
        "generation": 3,
        "seq_lo": 7,
        "seq_hi": 8,
        "time": TIME,
        "received_us": RECEIVED_US + 1_000_000,
        "next_offsets": [0, 11, 22, 33],
    }


def test_each_upstream_has_its_cursor_and_where_it_brought_frames_its_epoch() -> None:
    """spec: F-29"""
    found = batch_of(
        [
            Handed(ORIGIN, publish(7)),
            Handed(OTHER_ORIGIN, Duplicate(500, TIME, RECEIVED_US)),
            Handed(ORIGIN, publish(8)),
            Handed(OTHER_ORIGIN, Duplicate(501, TIME, RECEIVED_US)),
        ],
        OUTPUTS,
    )
    cursors = [checked_value("cursors", one) for one in cursors_of(found, OUTPUTS, UPDATED_US)]
    assert [(one["host"], one["seq"], one["generation"]) for one in cursors] == [
        (HOST, 8, 3),
        ("other.example", 501, 1),
    ]
    epochs = [
        checked_value("epochs", one) for one in epochs_of(found, OUTPUTS, {0: 1, 1: 2, 2: 3, 3: 4})
    ]
    assert [(one["host"], one["seq_lo"], one["seq_hi"]) for one in epochs] == [(HOST, 7, 8)]
    assert [dict(frame.headers)["host"] for frame in found.frames] == [HOST.encode()] * 2


@pytest.mark.parametrize("has_account", [True, False])
def test_a_gap_is_told_of_with_the_events_around_it(has_account: bool) -> None:
    gap = Gap(GapReason.OUTDATED_CURSOR, Place(5, None))
    after = publish(90) if has_account else Skip(90, TIME, RECEIVED_US)
    found = batch(publish(4), publish(5), after._replace(gap=gap), publish(91))
    (message,) = gaps_of(found, OUTPUTS, {3: 33, 2: 22, 1: 11, 0: 0})
    assert (message.topic, message.partition, message.key) == ("p.gaps", 0, HOST.encode())
    assert message.timestamp_ms == RECEIVED_US // 1000
    assert checked_value("gaps", message) == {
        "host": HOST,
        "generation": 3,
        "reason": "outdated_cursor",
        "from_seq": 5,
        "from_time": None,
        "to_seq": 90,
        "to_time": TIME,
        "received_us": RECEIVED_US,
        "next_offsets": [0, 11, 22, 33],
    }


def test_a_cursor_is_read_back_as_it_was_written() -> None:
    (cursor,) = cursors_of(batch(publish(2**53 - 1)), OUTPUTS, UPDATED_US)
    assert parse_cursor(cursor.value or b"") == StoredCursor(2**53 - 1, 3, TIME)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"17",
        b"[]",
        b"{}",
        b"\xff",
        b'{"seq":1,"time":null}',
        b'{"seq":1,"generation":1}',
        b'{"seq":"1","generation":1,"time":null}',
        b'{"seq":-1,"generation":1,"time":null}',
        b'{"seq":1,"generation":0,"time":null}',
        b'{"seq":1,"generation":1,"time":5}',
    ],
)
def test_what_is_no_cursor_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"line 1|seq, generation and time"):
        parse_cursor(value)
