"""When captured frames come into being, and where a cursor starts."""

import pytest

from pipelines.sim.emission import CapturedFrame, CapturedHistory
from pipelines.sim.ports import CursorHabit, Emission, FutureCursorError, Start

# The time a history begins in these tests: no clock starts at zero.
T0 = 5000.0


def frames(*seqs: int | None) -> tuple[CapturedFrame, ...]:
    return tuple(CapturedFrame(seq, b"") for seq in seqs)


def test_nothing_exists_before_the_first_subscription() -> None:
    history = CapturedHistory(frames(1, 2, 3), Emission(rate=1))
    assert history.emitted_count(T0) == 0
    assert history.emitted_count(T0 + 100) == 0


def test_without_a_rate_everything_exists_from_the_first_subscription_on() -> None:
    history = CapturedHistory(frames(1, 2, 3), Emission())
    assert history.subscribe(None, T0) == Start(0)
    assert history.emitted_count(T0) == 3
    assert history.wait_s(2, T0) == 0
    assert history.wait_s(3, T0) is None


def test_frames_come_into_being_at_the_rate() -> None:
    history = CapturedHistory(frames(1, 2, 3), Emission(rate=4))
    history.subscribe(None, T0)
    assert [history.emitted_count(T0 + quarter / 4) for quarter in range(5)] == [0, 1, 2, 3, 3]
    assert history.wait_s(0, T0) == 0.25
    assert history.wait_s(1, T0 + 0.25) == 0.25
    assert history.wait_s(2, T0) == 0.75
    assert history.wait_s(0, T0 + 0.5) == 0
    assert history.wait_s(3, T0) is None


def test_a_subscriber_without_cursor_starts_with_what_comes_next() -> None:
    """spec: F-22."""
    history = CapturedHistory(frames(1, 2, 3), Emission(rate=1))
    assert history.subscribe(None, T0) == Start(0)
    assert history.subscribe(None, T0 + 2) == Start(2)
    assert history.subscribe(None, T0 + 99) == Start(3)


@pytest.mark.parametrize("habit", CursorHabit)
@pytest.mark.parametrize("cursor", range(12))
def test_a_cursor_starts_after_or_at_the_frame_it_names(habit: CursorHabit, cursor: int) -> None:
    """spec: F-20, F-23, F-26."""
    seqs = (2, 3, 7, 8, 11)
    start = CapturedHistory(frames(*seqs), Emission(cursor_habit=habit)).subscribe(cursor, T0)
    wanted = [
        seq for seq in seqs if seq > cursor or (habit is CursorHabit.INCLUSIVE and seq == cursor)
    ]
    assert list(seqs[start.index :]) == wanted
    assert not start.is_outdated


@pytest.mark.parametrize("rate", [0, 1])
def test_a_cursor_over_the_last_sequence_number_is_in_the_future(rate: float) -> None:
    """spec: F-25."""
    history = CapturedHistory(frames(5, 6), Emission(rate=rate))
    with pytest.raises(FutureCursorError):
        history.subscribe(7, T0)
    assert history.emitted_count(T0) == 0
    assert history.subscribe(6, T0) == Start(2)


def test_frames_without_sequence_number_go_with_the_one_after_them() -> None:
    history = CapturedHistory(frames(None, 1, None, None, 2, 3, None), Emission())
    assert [history.subscribe(cursor, T0).index for cursor in range(4)] == [0, 2, 5, 6]


def test_a_capture_of_garbage_alone_is_served_from_the_start() -> None:
    history = CapturedHistory(frames(None, None), Emission())
    assert history.subscribe(0, T0) == Start(0)
    with pytest.raises(FutureCursorError):
        history.subscribe(1, T0)


def test_a_cursor_in_a_capture_whose_sequence_goes_back_skips_nothing_after_it() -> None:
    history = CapturedHistory(frames(5, 6, 3, 7), Emission())
    assert history.subscribe(5, T0) == Start(1)
    assert history.subscribe(4, T0) == Start(0)


def test_a_cursor_ahead_of_the_emission_continues_an_earlier_run() -> None:
    history = CapturedHistory(frames(1, 2, 3, 4), Emission(rate=1))
    assert history.subscribe(2, T0) == Start(2)
    assert history.emitted_count(T0) == 2
    assert history.emitted_count(T0 + 1) == 3
    assert history.wait_s(2, T0) == 1
    # And it does not set back what exists already.
    assert history.subscribe(1, T0 + 1) == Start(1)
    assert history.emitted_count(T0 + 1) == 3


def test_a_cursor_before_the_retained_frames_is_outdated() -> None:
    """spec: F-24, F-26."""
    history = CapturedHistory(frames(*range(1, 11)), Emission(retained_count=3))
    assert history.subscribe(6, T0) == Start(7, is_outdated=True)
    assert history.subscribe(7, T0) == Start(7)
    assert history.subscribe(10, T0) == Start(10)
    assert history.subscribe(0, T0) == Start(7)


def test_the_retained_frames_move_with_the_emission() -> None:
    """spec: F-24."""
    history = CapturedHistory(frames(*range(1, 11)), Emission(rate=1, retained_count=3))
    history.subscribe(None, T0)
    assert history.subscribe(1, T0 + 4) == Start(1)
    assert history.subscribe(1, T0 + 5) == Start(2, is_outdated=True)
