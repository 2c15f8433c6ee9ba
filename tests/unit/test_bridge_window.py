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
from pipelines.bridge.progress import (
    Published,
    Received,
    coverage_of,
    events_count_of,
    report_of,
)
from pipelines.bridge.sightings import Sighting, Sightings
from pipelines.bridge.window import Window, content_id
from pipelines.captures import read_frames

RELAY = "relay.example"
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
    """Whether each of them is published, from a relay."""
    return [is_published(window, frame) for frame in frames]


def is_published(window: Window, frame: bytes, pds: str | None = None) -> bool:
    envelope = parse_envelope(frame)
    return window.bring(envelope, pds or RELAY, is_pds=pds is not None).is_published


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
            if is_published(window, frame):
                published.append((parse_envelope(frame).seq or 0) % 1000)
            places[upstream] += 1
    assert published == list(range(1, 31))


def test_what_a_server_brings_keeps_out_nothing_of_a_relay_or_of_another_server() -> None:
    """It may have no right to say it, which is found out later: then it would be missing.

    spec: J-10
    """
    window = Window()
    frames = [commit(5, 1), event("#account", 6, ACCOUNT)]
    for pds in ("one.example", "two.example", None):
        assert [is_published(window, frame, pds) for frame in frames] == [True, True]
        assert [is_published(window, frame, pds) for frame in frames] == [False, False]


def test_what_a_relay_has_brought_is_not_taken_from_a_server_again() -> None:
    window = Window()
    assert is_published(window, commit(5, 1))
    assert not is_published(window, commit(5, 1), "pds.example")


def test_a_server_that_makes_up_revisions_does_not_let_repetitions_of_relays_through() -> None:
    window = Window()
    assert brought(window, [commit(5, 1), commit(6, 3)]) == [True, True]
    assert is_published(window, commit(1, 9), "pds.example")
    assert brought(window, [commit(7, 4)]) == [True]
    assert brought(window, [commit(900, 1), commit(901, 3), commit(902, 4)]) == [False] * 3


def test_what_is_published_once_more_is_not_new() -> None:
    """A relay's event that a server had is published; so is what follows a late commit."""
    window = Window()
    envelope = parse_envelope(commit(5, 2))
    assert window.bring(envelope, "pds.example", is_pds=True) == (True, Sighting.FIRST)
    assert window.bring(envelope, RELAY) == (True, Sighting.LATER)
    assert window.bring(envelope, "other.example") == (False, Sighting.LATER)
    assert window.bring(envelope, "other.example") == (False, Sighting.REPEATED)
    late = parse_envelope(commit(900, 1))
    assert window.bring(late, RELAY) == (True, Sighting.FIRST)
    assert window.bring(envelope, RELAY) == (True, Sighting.REPEATED)


def test_what_was_there_before_the_start_counts_for_nobody() -> None:
    window = Window()
    old, new = parse_envelope(commit(5, 1)), parse_envelope(commit(6, 2))
    window.recall(old)
    assert window.bring(old, "other.example") == (False, Sighting.REPEATED)
    assert window.bring(new, RELAY) == (True, Sighting.FIRST)
    assert window.bring(old, "pds.example", is_pds=True) == (False, Sighting.REPEATED)


HOSTS = {"one.example": False, "two.example": False, "a-pds.example": True, "b-pds.example": True}


@given(st.lists(st.tuples(st.sampled_from(list(HOSTS)), st.integers(1, 8)), max_size=80))
def test_coverage_is_what_sets_of_events_say(steps: list[tuple[str, int]]) -> None:
    """Whoever brings what in whichever order, relays and servers; revisions come late, too."""
    window = Window()
    received = {host: Received() for host in HOSTS}
    sets: dict[str, set[int]] = {host: set() for host in HOSTS}
    for seq, (host, event_number) in enumerate(steps, 1):
        frame = commit(seq, event_number, f"did:web:a{event_number % 2}.example")
        brought = window.bring(parse_envelope(frame), host, is_pds=HOSTS[host])
        received[host].count(brought.sighting)
        sets[host].add(event_number)
    every = set().union(*sets.values())
    assert events_count_of(received) == len(every)
    assert {host: one.brought_count for host, one in received.items()} == {
        host: len(events) for host, events in sets.items()
    }
    groups = report_of(received, Published(), is_leading=True).groups
    assert groups["missing"] == {host: len(every - events) for host, events in sets.items()}
    assert coverage_of(received) == (
        {host: round(len(events) / len(every), 4) for host, events in sets.items()}
        if every
        else {}
    )


def test_an_event_is_forgotten_after_so_many_others() -> None:
    sightings = Sightings(count=2)
    first = [sightings.see(event_id, RELAY) for event_id in (b"a", b"b", b"a", b"c")]
    assert first == [Sighting.FIRST, Sighting.FIRST, Sighting.REPEATED, Sighting.FIRST]
    assert sightings.see(b"b", "other.example") is Sighting.LATER
    assert sightings.see(b"a", "other.example") is Sighting.FIRST
