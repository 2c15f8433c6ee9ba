"""When generated frames come into being, how long they are kept, and where a cursor starts."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from support.network import LIVELY, make_events

from pipelines.sim.events import Event
from pipelines.sim.mix import Settings
from pipelines.sim.ports import (
    READ_COUNT,
    CursorHabit,
    Emission,
    FutureCursorError,
    Start,
    SubscriberTooSlowError,
)
from pipelines.sim.stream import CATCH_UP_SEQS, PREPARED_BYTES, RETAINED_BYTES, Stream
from pipelines.sim.truth import Truth, TruthLog

# The time a stream begins in these tests: no clock starts at zero.
T0 = 5000.0
FAR_FUTURE_US = 2**53

EVENTS = make_events(Settings(accounts_count=5, seed=1, mix=LIVELY), 1_500)
SEQS = [event.seq for event in EVENTS]


class Source:
    """The events, and how many of them were asked for."""

    def __init__(self, events: list[Event] = EVENTS) -> None:
        self.taken_count = 0
        self._events = iter(events)

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        self.taken_count += 1
        return next(self._events)


def make_stream(
    emission: Emission | None = None,
    *,
    source: Iterator[Event] | None = None,
    truth: Truth | None = None,
    events_count: int | None = len(EVENTS),
    now_us: int = FAR_FUTURE_US,
    prepared_bytes: int = PREPARED_BYTES,
    retained_bytes: int = RETAINED_BYTES,
    log: TruthLog | None = None,
) -> Stream:
    return Stream(
        iter(EVENTS) if source is None else source,
        Truth([]) if truth is None else truth,
        emission or Emission(),
        wall_clock_us=lambda: now_us,
        events_count=events_count,
        prepared_bytes=prepared_bytes,
        retained_bytes=retained_bytes,
        log=log,
    )


def subscribe(stream: Stream, cursor: int | None, now_s: float = T0) -> Start:
    """Asks as often as it takes."""
    for _ in range(10_000):
        start = stream.subscribe(cursor, now_s)
        if start is not None:
            return start
    raise AssertionError("the stream never catches up")


def read_all(stream: Stream, index: int, now_s: float = T0) -> list[bytes]:
    """Reads until nothing comes."""
    frames: list[bytes] = []
    while more := stream.read(index + len(frames), now_s):
        assert len(more) <= READ_COUNT
        frames += more
    return frames


def read_up_to(stream: Stream, count: int, now_s: float = T0) -> None:
    """Reads from the beginning until at least so many frames were emitted."""
    index = 0
    while index < count:
        index += len(stream.read(index, now_s))


def frames(events: list[Event]) -> list[bytes]:
    return [event.frame for event in events]


def test_without_a_rate_frames_come_into_being_as_they_are_read() -> None:
    truth = Truth([])
    stream = make_stream(truth=truth)
    assert stream.emitted_count(T0) == 0
    assert subscribe(stream, None) == Start(0)
    stream.work(T0 + 100)
    stream.work(T0 + 100)
    assert stream.emitted_count(T0 + 100) == 0
    assert stream.read(0, T0) == frames(EVENTS[:READ_COUNT])
    assert stream.emitted_count(T0) == READ_COUNT
    assert truth.summary()["seq"] == EVENTS[READ_COUNT - 1].seq
    assert read_all(stream, READ_COUNT) == frames(EVENTS[READ_COUNT:])
    assert stream.wait_s(len(EVENTS) - 1, T0) == 0
    assert stream.wait_s(len(EVENTS), T0) is None


def test_a_second_subscriber_reads_the_same_frames() -> None:
    stream = make_stream()
    start = subscribe(stream, 0)
    assert read_all(stream, start.index) == frames(EVENTS)
    assert read_all(stream, subscribe(stream, 0).index) == frames(EVENTS)
    assert subscribe(stream, None) == Start(len(EVENTS))


def test_frames_come_into_being_at_the_rate() -> None:
    stream = make_stream(Emission(rate=4))
    assert stream.work(T0) == 0
    assert stream.emitted_count(T0) == 0
    assert subscribe(stream, None) == Start(0)
    assert stream.read(0, T0 + 0.2) == []
    assert stream.wait_s(0, T0) == 0.25
    assert stream.wait_s(1, T0 + 0.25) == 0.25
    assert stream.read(0, T0 + 0.5) == frames(EVENTS[:2])
    assert stream.wait_s(1, T0 + 0.5) == 0
    # Whether somebody reads them or not.
    stream.work(T0 + 3)
    assert stream.emitted_count(T0 + 3) == 12
    assert subscribe(stream, None, T0 + 3) == Start(12)


def test_what_is_told_moves_with_the_emission() -> None:
    truth = Truth([])
    stream = make_stream(Emission(rate=1), truth=truth)
    subscribe(stream, None)
    for count in range(60):
        stream.work(T0 + count)
        expected = Truth([])
        expected.apply(EVENTS[:count])
        assert truth.accounts() == expected.accounts()
        assert truth.summary() == expected.summary()


def test_frames_are_made_ahead_up_to_the_limit() -> None:
    source, limit = Source(), 100_000
    stream = make_stream(source=source, prepared_bytes=limit)
    while stream.work(T0) == 0:
        pass
    sizes = list(itertools.accumulate(len(event.frame) for event in EVENTS))
    full_count = next(count for count, size in enumerate(sizes, 1) if size >= limit)
    assert source.taken_count == full_count
    # There is room again, but a reader comes first.
    index = subscribe(stream, 0).index
    index += len(stream.read(index, T0))
    assert stream.work(T0) == 0
    assert source.taken_count == full_count
    while stream.work(T0) == 0:
        pass
    assert source.taken_count > full_count
    assert sizes[source.taken_count - 1] - sizes[index - 1] >= limit


def test_nothing_is_made_beyond_the_end() -> None:
    source = Source()
    stream = make_stream(source=source, events_count=100)
    while stream.work(T0) == 0:
        pass
    assert source.taken_count == 100
    assert stream.total_count == 100
    assert read_all(stream, subscribe(stream, 0).index) == frames(EVENTS[:100])
    assert stream.work(T0) != 0
    assert source.taken_count == 100


def test_a_stream_waits_for_the_present() -> None:
    """spec: G-05: a revision from the future would be refused."""
    now_us = EVENTS[40].time_us
    stream = make_stream(now_us=now_us)
    index = subscribe(stream, 0).index
    emitted = read_all(stream, index)
    assert emitted
    # Only the one with which it is noticed may be some milliseconds early.
    assert all(event.time_us <= now_us for event in EVENTS[: len(emitted) - 1])
    assert EVENTS[len(emitted)].time_us > now_us
    wait_s = stream.wait_s(len(emitted), T0)
    assert wait_s is not None
    assert wait_s > 0
    assert stream.work(T0) != 0


@pytest.mark.parametrize("habit", CursorHabit)
@pytest.mark.parametrize("cursor", range(1, SEQS[60]))
def test_a_cursor_starts_after_or_at_the_frame_it_names(habit: CursorHabit, cursor: int) -> None:
    """spec: F-20, F-23: sequence numbers have gaps."""
    assert len(SEQS[:60]) < SEQS[60] - SEQS[0], "there is no gap to test with"
    stream = make_stream(Emission(cursor_habit=habit), events_count=100)
    subscribe(stream, 0)
    read_up_to(stream, 60)
    start = subscribe(stream, cursor)
    wanted = [
        seq for seq in SEQS if seq > cursor or (habit is CursorHabit.INCLUSIVE and seq == cursor)
    ]
    assert SEQS[start.index] == wanted[0]
    assert not start.is_outdated


def test_a_cursor_of_an_earlier_run_is_caught_up_with() -> None:
    """The same network again: what a reader got from an earlier run is emitted at once."""
    truth = Truth([])
    stream = make_stream(Emission(rate=10), truth=truth)
    cursor = SEQS[700]
    assert stream.subscribe(cursor, T0) is None, "in pieces: others want to be served"
    start = subscribe(stream, cursor)
    assert start.index == 701
    assert truth.summary()["seq"] >= cursor
    emitted_count = stream.emitted_count(T0)
    assert emitted_count >= 701
    # From there on at the rate.
    stream.work(T0 + 1)
    stream.work(T0 + 2)
    assert stream.emitted_count(T0 + 2) == emitted_count + 20


def test_a_cursor_beyond_the_last_frame_of_all_is_in_the_future() -> None:
    """spec: F-25."""
    stream = make_stream()
    with pytest.raises(FutureCursorError):
        subscribe(stream, SEQS[-1] + 1)
    assert subscribe(stream, SEQS[-1]) == Start(len(EVENTS))


def test_a_cursor_of_another_network_is_in_the_future() -> None:
    """spec: F-25: nothing is made for it."""
    source = Source()
    stream = make_stream(source=source, events_count=None)
    with pytest.raises(FutureCursorError):
        subscribe(stream, CATCH_UP_SEQS + 1)
    assert source.taken_count == 0


def test_what_is_kept_when_a_reader_starts_is_given_before_more_is_emitted() -> None:
    """Who starts at the oldest frame gets it, and not an empty one in its place."""
    stream = make_stream(Emission(rate=100, retained_count=40), events_count=None)
    subscribe(stream, 0)
    while stream.emitted_count(T0 + 2) < 200:
        stream.work(T0 + 2)
    start = subscribe(stream, SEQS[0], T0 + 2)
    assert start.is_outdated
    assert stream.read(start.index, T0 + 2.1) == frames(EVENTS)[160 : 160 + READ_COUNT]


def test_a_cursor_before_the_retained_frames_is_outdated() -> None:
    """spec: F-24, F-26."""
    stream = make_stream(Emission(retained_count=10), events_count=100)
    subscribe(stream, 0)
    read_up_to(stream, 100)
    assert subscribe(stream, SEQS[88]) == Start(90, is_outdated=True)
    assert subscribe(stream, SEQS[89]) == Start(90)
    assert subscribe(stream, SEQS[99]) == Start(100)
    assert subscribe(stream, 0) == Start(90)
    inclusive = make_stream(
        Emission(cursor_habit=CursorHabit.INCLUSIVE, retained_count=10), events_count=100
    )
    subscribe(inclusive, 0)
    read_up_to(inclusive, 100)
    assert subscribe(inclusive, SEQS[89]) == Start(90, is_outdated=True)
    assert subscribe(inclusive, SEQS[90]) == Start(90)


def test_frames_are_kept_up_to_a_limit_of_bytes() -> None:
    limit = 50_000
    stream = make_stream(retained_bytes=limit)
    subscribe(stream, 0)
    read_up_to(stream, len(EVENTS))
    oldest = subscribe(stream, 0).index
    kept = read_all(stream, oldest)
    assert kept == frames(EVENTS[oldest:])
    assert sum(map(len, kept)) <= limit < sum(map(len, kept)) + len(EVENTS[oldest - 1].frame)


def test_many_frames_go_through_a_small_window() -> None:
    """Longer than the room that is given back at once."""
    count = 10_000
    events = [
        Event(seq, EVENTS[0].kind, 0, b"%d" % seq, EVENTS[0].state) for seq in range(1, count + 1)
    ]
    stream = make_stream(
        Emission(retained_count=READ_COUNT), source=iter(events), events_count=count
    )
    subscribe(stream, 0)
    index = 0
    while index < count:
        received = stream.read(index, T0)
        assert received == [b"%d" % seq for seq in range(index + 1, index + 1 + len(received))]
        index += len(received)
    assert subscribe(stream, 0) == Start(count - READ_COUNT)
    assert read_all(stream, count - READ_COUNT) == frames(events[-READ_COUNT:])


def test_a_subscriber_that_falls_out_of_the_window_is_too_slow() -> None:
    """spec: F-27."""
    stream = make_stream(Emission(retained_count=50), events_count=200)
    slow = subscribe(stream, 0).index
    index = subscribe(stream, 0).index
    while index < 200:
        index += len(stream.read(index, T0))
    with pytest.raises(SubscriberTooSlowError):
        stream.read(slow, T0)
    assert stream.read(150, T0) == frames(EVENTS[150 : 150 + READ_COUNT])


def test_the_log_has_a_line_for_each_emitted_event(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    log = TruthLog(path)
    stream = make_stream(log=log, events_count=400)
    subscribe(stream, 0)
    while stream.work(T0) == 0:
        pass
    assert path.read_bytes() == b""
    read_up_to(stream, 300)
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [line["seq"] for line in lines] == SEQS[: stream.emitted_count(T0)]
    log.close()
