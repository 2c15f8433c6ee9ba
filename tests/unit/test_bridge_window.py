"""Which frames of several upstreams are the same event."""

import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wire
from support.oracle import cid_of, dag_cbor, link

from pipelines.atproto.frames import parse_envelope
from pipelines.bridge.window import Window, content_id
from pipelines.captures import read_frames

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
OTHER_DID = "did:web:example.example"
COMMIT_CID = cid_of(dag_cbor({"commit": 1}))
LATER = "2026-01-01T00:00:07.000Z"


def event(type_name: str, seq: int, fields: Mapping[str, Any]) -> bytes:
    return wire.frame(type_name, {"seq": seq, "time": wire.START_TIME, **fields})


def commit(seq: int, second: int, did: str = DID, **fields: Any) -> bytes:
    payload: dict[str, Any] = {
        "repo": did,
        "rev": wire.rev(second),
        "since": None,
        "commit": link(COMMIT_CID),
        "blocks": b"blocks",
        "ops": [],
    }
    return event("#commit", seq, payload | fields)


def brought(window: Window, frames: Sequence[bytes]) -> list[bool]:
    return [window.bring(parse_envelope(frame)) for frame in frames]


SYNC = {"did": DID, "rev": wire.rev(1), "blocks": b"blocks"}
IDENTITY = {"did": DID, "handle": "a.example"}
ACCOUNT = {"did": DID, "active": False, "status": "deactivated"}


@pytest.mark.parametrize(
    "frames",
    [
        (commit(5, 1), commit(900, 1)),
        (commit(5, 1), commit(900, 1, time=LATER)),
        (event("#sync", 5, SYNC), event("#sync", 900, SYNC | {"time": LATER})),
        (event("#identity", 5, IDENTITY), event("#identity", 900, IDENTITY)),
        (event("#account", 5, ACCOUNT), event("#account", 900, ACCOUNT)),
        (event("#labels", 5, {"did": DID, "x": 1}), event("#labels", 900, {"did": DID, "x": 1})),
    ],
)
def test_an_event_is_the_same_under_another_number(frames: tuple[bytes, bytes]) -> None:
    """spec: J-07: the time of a commit or sync is the upstream's own."""
    assert brought(Window(), frames) == [True, False]


@pytest.mark.parametrize(
    "other",
    [
        commit(5, 2),
        commit(5, 1, OTHER_DID),
        commit(5, 1, blocks=b"other blocks"),
        commit(5, 1, ops=[{"path": "a.b.c/d", "action": "create", "cid": link(COMMIT_CID)}]),
        commit(5, 1, since=wire.rev(0)),
        commit(5, 1, prevData=link(COMMIT_CID)),
        commit(5, 1, time="yesterday"),
        commit(5, 1, commit=COMMIT_CID[:-1]),
        event("#sync", 5, SYNC),
    ],
)
def test_a_commit_that_says_anything_else_is_another_one(other: bytes) -> None:
    """One with the same signed commit must not keep out the true one. spec: M-13"""
    assert brought(Window(), [other, commit(900, 1)]) == [True, True]


@pytest.mark.parametrize(
    ("type_name", "fields", "change"),
    [
        ("#identity", IDENTITY, {"handle": "b.example"}),
        ("#identity", IDENTITY, {"time": LATER}),
        ("#account", ACCOUNT, {"status": "deleted"}),
        ("#account", ACCOUNT, {"active": True}),
        ("#account", ACCOUNT, {"time": LATER}),
        ("#account", ACCOUNT, {"did": OTHER_DID}),
    ],
)
def test_identities_and_accounts_are_told_apart_by_all_they_say(
    type_name: str, fields: dict[str, Any], change: dict[str, Any]
) -> None:
    """An account that is activated, deactivated and activated again does so twice."""
    frames = [event(type_name, 5, fields), event(type_name, 6, fields | change)]
    assert brought(Window(), [*frames, *frames]) == [True, True, False, False]


def test_events_without_account_are_not_remembered() -> None:
    frame = wire.frame("#labels", {"seq": 7})
    assert brought(Window(), [frame, frame]) == [True, True]


def test_what_came_too_long_ago_is_new_again() -> None:
    window = Window(count=3)
    frames = [commit(seq, seq, f"did:web:a{seq}.example") for seq in range(1, 5)]
    assert brought(window, frames) == [True] * 4
    assert brought(window, frames[:0:-1]) == [False] * 3
    assert brought(window, frames[:1]) == [True]


def test_what_follows_a_late_commit_comes_again() -> None:
    """One upstream left a commit out; the other one brings it, and what makes the chain whole."""
    window = Window()
    first, missing, third, fourth = (commit(second, second) for second in range(1, 5))
    assert brought(window, [first, third]) == [True, True]
    assert brought(window, [first, missing, third]) == [False, True, True]
    assert brought(window, [third, fourth, fourth]) == [False, True, False]


def test_a_late_commit_of_one_account_changes_nothing_for_others() -> None:
    window = Window()
    other = commit(2, 2, OTHER_DID)
    assert brought(window, [other, commit(3, 3), commit(1, 1)]) == [True] * 3
    assert brought(window, [other]) == [False]


def test_what_is_no_revision_overtakes_nothing() -> None:
    window = Window()
    assert brought(window, [commit(2, 2), commit(9, 9, rev="z" * 14), commit(3, 3)]) == [True] * 3
    assert brought(window, [commit(2, 2)]) == [False]


def test_what_is_kept_of_an_event_does_not_grow_with_it() -> None:
    """An upstream chooses DIDs of 2,048 characters, and revisions as long as a frame may be."""
    window = Window()
    revs = ["z" * 100_000, wire.rev(1)]
    tracemalloc.start()
    try:
        for number in range(200):
            did = f"did:web:{number}.{'a' * 2_000}.example"
            assert brought(window, [commit(1, 1, did, rev=revs[number % 2])]) == [True]
        size_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size_bytes < 200_000  # two thousandths of the revisions, half of the DIDs


def test_recorded_frames_are_all_different_and_each_the_same_as_itself(
    capture_folder: Path,
) -> None:
    frames = list(read_frames(capture_folder / "frames.bin"))
    ids = [content_id(parse_envelope(frame)) for frame in frames]
    assert len(set(ids)) == len(frames)
    window = Window()
    assert brought(window, frames) == [True] * len(frames)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3)), max_size=60))
def test_in_order_from_both_each_event_is_new_once(steps: list[tuple[int, int]]) -> None:
    """However two upstreams interleave: what both bring in order is there once, in order."""
    window = Window()
    streams = [
        [commit(seq + 1000 * upstream, seq, f"did:web:a{seq % 3}.example") for seq in range(1, 31)]
        for upstream in range(2)
    ]
    published: list[int] = []
    places = [0, 0]
    for upstream, count in [*steps, (0, 30), (1, 30)]:
        for frame in streams[upstream][places[upstream] : places[upstream] + count]:
            envelope = parse_envelope(frame)
            if window.bring(envelope):
                published.append((envelope.seq or 0) % 1000)
            places[upstream] += 1
    assert published == list(range(1, 31))


def test_what_a_server_brings_keeps_out_nothing_of_a_relay_or_of_another_server() -> None:
    """It may have no right to say it, which is found out later: then it would be missing.

    spec: J-10
    """
    window = Window()
    frames = [commit(5, 1), event("#account", 6, ACCOUNT)]
    envelopes = [parse_envelope(frame) for frame in frames]
    for pds in ("one.example", "two.example", None):
        assert [window.bring(envelope, pds) for envelope in envelopes] == [True, True]
        assert [window.bring(envelope, pds) for envelope in envelopes] == [False, False]


def test_what_a_relay_has_brought_is_not_taken_from_a_server_again() -> None:
    window = Window()
    envelope = parse_envelope(commit(5, 1))
    assert window.bring(envelope)
    assert not window.bring(envelope, "pds.example")


def test_a_server_that_makes_up_revisions_does_not_let_repetitions_of_relays_through() -> None:
    window = Window()
    assert brought(window, [commit(5, 1), commit(6, 3)]) == [True, True]
    assert window.bring(parse_envelope(commit(1, 9)), "pds.example")
    assert brought(window, [commit(7, 4)]) == [True]
    assert brought(window, [commit(900, 1), commit(901, 3), commit(902, 4)]) == [False] * 3
