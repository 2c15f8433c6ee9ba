"""The messages of one transaction of the bridge."""

import json
from typing import Any

import pytest

from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import Kind
from pipelines.atproto.syntax import Did
from pipelines.bridge.intake import Publish, Quarantine, Skip
from pipelines.bridge.messages import (
    Batch,
    Origin,
    Outputs,
    StoredCursor,
    StreamPosition,
    batch_of,
    epoch_of,
    parse_cursor,
)
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
OUTPUTS = Outputs("p.frames", "p.quarantine", "p.cursors", "p.epochs", 4, 4)


def publish(seq: int, did: Did = DID, *, received_us: int = RECEIVED_US) -> Publish:
    return Publish(b"frame %d" % seq, did, seq, Kind.COMMIT, TIME, received_us)


def batch(*entries: Publish | Quarantine | Skip) -> Batch:
    return batch_of(entries, ORIGIN, OUTPUTS, UPDATED_US)


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
    assert [name for name, _ in frame.headers] == header_names("frames")


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
    assert (found.cursor, found.position, found.frames) == (None, None, [])


def test_the_cursor_is_that_of_the_last_message() -> None:
    """spec: F-28, F-29"""
    found = batch(publish(7), Skip(9, None, RECEIVED_US + 1))
    assert found.cursor is not None
    assert (found.cursor.topic, found.cursor.partition) == ("p.cursors", 0)
    assert found.cursor.key == HOST.encode()
    assert checked_value("cursors", found.cursor) == {
        "host": HOST,
        "seq": 9,
        "generation": 3,
        "time": None,
        "updated_us": UPDATED_US,
    }
    assert found.position == StreamPosition(9, None, RECEIVED_US + 1)


def test_a_skipped_message_without_number_moves_no_cursor() -> None:
    assert batch(Skip(None, None, RECEIVED_US)).cursor is None


def test_an_epoch_says_what_came_and_where_it_ends() -> None:
    found = batch(
        publish(7),
        publish(8, OTHER_DID, received_us=RECEIVED_US + 1_000_000),
        Skip(12, None, RECEIVED_US),
    )
    epoch = epoch_of(found, ORIGIN, OUTPUTS, {3: 33, 2: 22, 1: 11, 0: 0})
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


def test_a_cursor_is_read_back_as_it_was_written() -> None:
    cursor = batch(publish(2**53 - 1)).cursor
    assert cursor is not None
    assert parse_cursor(cursor.value or b"") == StoredCursor(2**53 - 1, generation=3)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"17",
        b"[]",
        b"{}",
        b"\xff",
        b'{"seq":1}',
        b'{"seq":"1","generation":1}',
        b'{"seq":-1,"generation":1}',
        b'{"seq":1,"generation":0}',
    ],
)
def test_what_is_no_cursor_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"line 1|seq and generation"):
        parse_cursor(value)
