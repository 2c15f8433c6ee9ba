"""The parts of the chaos that need no broker: relays that misbehave, and what counts."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from chaos.faults import KILLS, LONG_ROUND, SHORT_ROUND, Kind, Struck, counts, missing, shuffled
from chaos.leading import leads, only_leader
from chaos.merged import Stored, merge, never_sent, orders, outside_epochs, union
from chaos.relay import CAPTURED_EVERY, FIRST_SEQS_APART, Relay, RelayedNetwork, numbered, said
from support import wire
from support.judge import compare
from support.transactions import Note, Status, open_at, was_inside

from pipelines.atproto.frames import parse_envelope
from pipelines.captures import read_frames
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Settings
from pipelines.sim.ports import Emission, FutureCursorError, Start
from pipelines.sim.service import SimServer


@pytest.fixture
def network(capture_folder: Path, tmp_path: Path) -> Iterator[RelayedNetwork]:
    generated = GeneratedNetwork(Settings(5, seed=3), truth_path=tmp_path / "truth.jsonl")
    yield RelayedNetwork(generated, capture_folder, 3)
    generated.close()


@pytest.fixture
def relay(network: RelayedNetwork) -> Relay:
    """One that sends a frame in each second of its clock."""
    relay = network.open_history(Emission(rate=1))
    assert relay.subscribe(0, 0.0) == Start(0)
    return relay


def run_until(relay: Relay, now_s: float) -> None:
    while relay.hosts.generated_count < int(now_s):
        relay.work(now_s)


def seqs(relay: Relay, index: int = 0) -> list[int | None]:
    found: list[int | None] = []
    while messages := relay.read(index + len(found), 0.0):
        found += [parse_envelope(message).seq for message in messages]
    return found


def test_a_simulator_that_ends_leaves_the_network_to_others(
    relay: Relay, network: RelayedNetwork
) -> None:
    with SimServer(network):
        pass
    run_until(relay, 3)
    assert relay.hosts.generated_count == 3


def test_numbers_follow_each_other_and_captured_events_are_mixed_in(
    relay: Relay, network: RelayedNetwork
) -> None:
    run_until(relay, 3 * CAPTURED_EVERY)
    assert seqs(relay) == list(range(1, 3 * CAPTURED_EVERY + 4))
    assert len(network.passed_captured()) == 3
    mixed_in = relay.sent[CAPTURED_EVERY]
    assert parse_envelope(mixed_in).did == parse_envelope(network.passed_captured()[0]).did


def test_a_frame_with_another_number_differs_in_nothing_else(capture_folder: Path) -> None:
    for frame in read_frames(capture_folder / "frames.bin"):
        seq = parse_envelope(frame).seq
        assert seq is not None
        other = numbered(frame, 70_000)
        assert parse_envelope(other).seq == 70_000
        assert numbered(other, seq) == frame


def test_old_events_come_again_under_their_numbers_and_no_cursor_finds_them(relay: Relay) -> None:
    run_until(relay, 5)
    relay.resend(2)
    run_until(relay, 6)
    assert seqs(relay) == [1, 2, 3, 4, 5, 4, 5, 6]
    assert relay.subscribe(4, 6.0) == Start(4)
    assert relay.subscribe(5, 6.0) == Start(7)
    assert [parse_envelope(frame).seq for frame in relay.sent] == [1, 2, 3, 4, 5, 6]


def test_a_relay_that_begins_anew_knows_no_old_cursor(relay: Relay) -> None:
    run_until(relay, 5)
    relay.renumber()
    run_until(relay, 7)
    assert seqs(relay) == [1, 2, 3, 4, 5, 1, 2]
    assert relay.subscribe(0, 7.0) == Start(5)
    with pytest.raises(FutureCursorError):
        relay.subscribe(3, 7.0)


def test_numbers_that_are_left_out(relay: Relay) -> None:
    run_until(relay, 2)
    relay.jump(1_000)
    run_until(relay, 3)
    assert seqs(relay) == [1, 2, 1_003]
    assert relay.jumps == [(2, 1_003)]
    assert relay.subscribe(2, 3.0) == Start(2)


def test_what_is_lost_is_in_the_log_of_what_happened_and_in_no_message(
    relay: Relay, tmp_path: Path
) -> None:
    run_until(relay, 2)
    relay.lose(range(1, 4))
    run_until(relay, 6)
    assert seqs(relay) == [1, 2, 3, 4]
    assert relay.lost == {2, 3}
    happened = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_bytes().splitlines()]
    dids = [event["did"] for number, event in enumerate(happened) if number not in relay.lost]
    assert [parse_envelope(frame).did for frame in relay.sent] == dids


def test_a_message_that_ends_too_early_comes_before_the_whole_one(relay: Relay) -> None:
    run_until(relay, 1)
    relay.cut_off_next()
    run_until(relay, 2)
    first, part, whole = relay.read(0, 2.0)
    assert whole.startswith(part)
    assert len(part) < len(whole)
    assert relay.cut_off == [part]
    assert relay.sent == [first, whole]


def test_a_relay_that_is_held_sends_what_happened_later_on(relay: Relay) -> None:
    run_until(relay, 2)
    relay.hold()
    relay.work(4.0)
    assert seqs(relay) == [1, 2]
    relay.release()
    relay.work(4.0)
    assert seqs(relay) == [1, 2, 3, 4]


def test_another_relay_passes_the_same_on_under_its_own_numbers_and_loses_its_own(
    relay: Relay, network: RelayedNetwork
) -> None:
    other = network.open_history(Emission(rate=1))
    other.lose([2])
    other.work(4.0)
    assert seqs(other) == []  # what happens is up to the first one
    run_until(relay, 4)
    other.work(4.0)
    assert seqs(relay) == [1, 2, 3, 4]
    assert seqs(other) == [FIRST_SEQS_APART + number for number in (1, 2, 3)]
    assert [said(frame) for frame in other.sent] == [
        said(frame) for number, frame in enumerate(relay.sent) if number != 2
    ]
    assert union([other, relay])[:3] == other.events == [said(frame) for frame in other.sent]
    assert Counter(union([other, relay])) == Counter(map(said, relay.sent))
    assert not relay.is_drained
    relay.hosts.freeze()
    while not relay.hosts.is_finished:
        relay.work(4.0)
    assert [one.is_drained for one in network.relays] == [True, True]


DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"


def commit(number: int, seq: int = 1, did: str = DID) -> bytes:
    return wire.frame("#sync", {"did": did, "rev": wire.rev(number), "seq": seq})


def identity(seq: int = 1) -> bytes:
    return wire.frame("#identity", {"did": DID, "seq": seq, "time": wire.START_TIME})


def stored(*frames: bytes, host: str = "a") -> list[Stored]:
    return [Stored(0, 2 * n, host, n + 1, frame, said(frame)) for n, frame in enumerate(frames)]


def test_what_two_relays_brought_is_there_once() -> None:
    merged = merge(stored(commit(1), commit(2), identity(), commit(1, did="did:web:a.example")))
    assert len(merged.events) == 4
    assert merged.repeats == set()


def test_what_is_there_again_without_a_reason_is_twice() -> None:
    for again in (commit(1, seq=9), commit(2, seq=9), identity(seq=9)):
        merged = merge(stored(commit(1), identity(), commit(2), again))
        assert Counter(merged.events)[said(again)] == 2
        assert merged.repeats == set()


def test_what_follows_a_late_event_may_be_there_once_more_and_not_twice_more() -> None:
    late = [commit(1), commit(3), identity(), commit(2), commit(3, seq=9), identity(seq=9)]
    merged = merge(stored(*late))
    assert merged.repeats == {(0, 8), (0, 10)}
    assert merged.events == [said(frame) for frame in late[:4]]
    assert Counter(merge(stored(*late, commit(3, seq=10))).events)[said(commit(3))] == 2
    assert orders(map(said, late)) == [
        (DID, tuple(map(said, (commit(1), commit(2), commit(3), identity()))))
    ]


def test_a_sync_that_says_again_what_it_said_is_the_same_event_and_an_account_is_not() -> None:
    frames = [
        wire.frame(kind, {"did": DID, "rev": wire.rev(1), "seq": 1, "time": time})
        for kind in ("#sync", "#account")
        for time in ("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z")
    ]
    assert len(set(map(said, frames[:2]))) == 1
    assert len(set(map(said, frames))) == 3


def test_an_event_that_is_late_in_another_account_is_no_reason() -> None:
    other = "did:web:a.example"
    frames = [commit(2), commit(2, did=other), commit(1, did=other), commit(2, seq=9)]
    assert Counter(merge(stored(*frames)).events)[said(commit(2))] == 2


def test_a_frame_must_have_been_sent_by_its_host_byte_for_byte() -> None:
    (one,) = stored(commit(1))
    assert never_sent([one], {"a": [commit(1)]}) == []
    assert never_sent([one], {"a": [commit(1, seq=2)], "b": [commit(1)]}) == [one]
    assert never_sent([one], {}) == [one]


@pytest.mark.parametrize(
    ("seq", "offset", "is_outside"),
    [(1, 0, False), (2, 3, False), (3, 4, False), (3, 3, True), (2, 4, True), (3, 6, True)],
)
def test_a_frame_lies_in_the_epoch_of_its_number(seq: int, offset: int, is_outside: bool) -> None:
    epochs = [
        {"host": "a", "seq_lo": 1, "seq_hi": 2, "next_offsets": [4]},
        {"host": "b", "seq_lo": 1, "seq_hi": 9, "next_offsets": [5]},
        {"host": "a", "seq_lo": 3, "seq_hi": 3, "next_offsets": [6]},
    ]
    one = Stored(0, offset, "a", seq, b"", b"")
    assert outside_epochs([one], epochs) == ([one] if is_outside else [])


def line(event: str) -> str:
    return json.dumps({"stage": "bridge", "event": event})


@pytest.mark.parametrize(
    ("events", "is_leading"),
    [
        ([], False),
        (["standing_by"], False),
        (["standing_by", "leading", "connected"], True),
        (["leading", "leadership_lost"], False),
        (["leading", "leadership_ended", "standing_by", "leading"], True),
    ],
)
def test_who_leads_has_said_so_last(events: list[str], is_leading: bool) -> None:
    assert leads([*map(line, events), '{"event": "lea', "[]", ""]) is is_leading


def test_one_bridge_leads_or_it_is_in_doubt_which() -> None:
    leading, other = [line("leading")], [line("standing_by")]
    assert only_leader({"0": other, "1": leading}) == "1"
    assert only_leader({"0": leading, "1": leading}) is None
    assert only_leader({"0": other}) is None


NAME = "standpipe.x.explode.0"


@pytest.mark.parametrize(
    ("before", "after", "is_inside"),
    [
        (Status.ONGOING, [Status.PREPARE_ABORT, Status.COMPLETE_ABORT], True),
        (Status.ONGOING, [Status.ONGOING, Status.PREPARE_ABORT], True),
        (Status.ONGOING, [Status.PREPARE_COMMIT, Status.COMPLETE_COMMIT], False),
        (Status.PREPARE_COMMIT, [Status.COMPLETE_COMMIT], False),
        (Status.COMPLETE_COMMIT, [Status.EMPTY], False),
        (Status.ONGOING, [], False),
    ],
)
def test_a_kill_counts_if_its_transaction_was_open_and_never_committed(
    before: Status, after: list[Status], is_inside: bool
) -> None:
    notes = [Note(NAME, before, 90), Note("another", Status.ONGOING, 95)]
    notes += [Note(NAME, status, 101) for status in after]
    assert was_inside(notes, NAME, 100) is is_inside
    assert counts(Struck(Kind.KILL_WORKER, NAME, 100), notes) is is_inside
    assert counts(Struck(Kind.RESEND, "2 events", 100), notes)


def test_a_broker_counts_if_any_transaction_was_open() -> None:
    notes = [Note(NAME, Status.ONGOING, 90), Note(NAME, Status.COMPLETE_COMMIT, 99)]
    assert open_at(notes, 95) == [NAME]
    assert counts(Struck(Kind.KILL_BROKER, "", 95), notes)
    assert not counts(Struck(Kind.KILL_BROKER, "", 99), notes)


def test_rounds_have_every_kind_and_seven_are_enough() -> None:
    short, long = shuffled(SHORT_ROUND, Random(1)), shuffled(LONG_ROUND, Random(1))
    assert set(short) == set(long) == set(Kind) > KILLS
    assert missing(long * 7, of_each=20, in_all=300) == 0
    assert missing([*long * 5, *short], of_each=20, in_all=300) > 0
    assert missing([], of_each=20, in_all=300) == 300


def test_what_is_lost_and_what_is_twice_are_told_apart() -> None:
    found = compare("letters", "aabc", "abbd")
    assert (found.lost, found.surplus) == (Counter("ac"), Counter("bd"))
    assert not found.is_equal
    assert compare("letters", "ab", "ba").is_equal
