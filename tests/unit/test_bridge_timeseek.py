"""The search for the cursor of a moment, against streams of all shapes."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.atproto.frames import MAX_SEQ
from pipelines.bridge.timeseek import SLACK_US, Search, Sighting

SECOND_US = 1_000_000


def run(search: Search, events: Sequence[Sighting], *, is_inclusive: bool = False) -> int:
    """Answers a search from a stream, and returns how often it asked."""
    asked_count = 0
    while (cursor := search.next_cursor) is not None:
        first = cursor if is_inclusive else cursor + 1
        search.answer(next((event for event in events if event.seq >= first), None))
        asked_count += 1
        assert asked_count <= 120
    return asked_count


def stream(count: int, *, first_seq: int = 1, step: int = 1) -> list[Sighting]:
    """One event a second."""
    return [Sighting(first_seq + step * n, n * SECOND_US) for n in range(count)]


@pytest.mark.parametrize("is_inclusive", [False, True])
@pytest.mark.parametrize("step", [1, 7, 1_000_003])
def test_the_start_is_a_minute_or_two_before_the_moment(step: int, is_inclusive: bool) -> None:
    events = stream(5_000, first_seq=31_000_000_000, step=step)
    search = Search(3_000 * SECOND_US)
    run(search, events, is_inclusive=is_inclusive)
    found = next(event for event in events if event.seq >= search.found)
    assert found.seq == search.found
    assert 3_000 * SECOND_US - 2 * SLACK_US <= found.time_us < 3_000 * SECOND_US - SLACK_US


def test_a_moment_before_everything_is_the_oldest_event() -> None:
    search = Search(30 * SECOND_US)
    assert run(search, stream(5_000)) == 1
    assert search.found == 0


def test_an_upstream_without_events_is_read_from_its_beginning() -> None:
    search = Search(30 * SECOND_US)
    run(search, [])
    assert search.found == 0


def test_a_moment_after_everything_is_the_newest_event() -> None:
    search = Search(10_000 * SECOND_US)
    run(search, stream(5_000))
    assert search.found in {4_999, 5_000}  # where the last one is, only its predecessor knows


def test_a_relay_of_ninety_million_events_is_asked_some_thirty_times() -> None:
    first, count = 31_000_000_000, 90_000_000
    search, asked_count = Search(count * SECOND_US // 700), 0
    while (cursor := search.next_cursor) is not None:
        number = max(0, cursor + 1 - first)
        search.answer(
            Sighting(first + number, number * SECOND_US // 350) if number < count else None
        )
        asked_count += 1
    assert 10 < asked_count < 40


def test_an_upstream_that_ignores_cursors_does_not_keep_us_for_ever() -> None:
    search, asked_count = Search(10_000 * SECOND_US), 0
    while search.next_cursor is not None:
        search.answer(Sighting(5, 0))
        asked_count += 1
        assert asked_count < 100
    assert search.found == MAX_SEQ


@given(
    gaps=st.lists(st.tuples(st.integers(1, 5_000), st.integers(0, 400)), max_size=60),
    moment_s=st.integers(0, 10_000),
    is_inclusive=st.booleans(),
)
def test_no_event_at_or_after_the_moment_is_ever_left_out(
    gaps: list[tuple[int, int]], moment_s: int, is_inclusive: bool
) -> None:
    events, seq, second = [], 0, 0
    for seq_gap, second_gap in gaps:
        seq, second = seq + seq_gap, second + second_gap
        events.append(Sighting(seq, second * SECOND_US))
    search = Search(moment_s * SECOND_US)
    run(search, events, is_inclusive=is_inclusive)
    wanted = [event for event in events if event.time_us >= moment_s * SECOND_US - SLACK_US]
    assert all(event.seq > search.found for event in wanted)
    is_early = [event.time_us < moment_s * SECOND_US - 2 * SLACK_US for event in events]
    is_left_out = [event.seq <= search.found for event in events]
    assert sum(early and not out for early, out in zip(is_early, is_left_out, strict=True)) <= 1
