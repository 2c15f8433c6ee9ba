"""Where the bridge sees that events are missing."""

import pytest

from pipelines.bridge.gaps import (
    JUMP_COUNT,
    RENUMBERED_COUNT,
    Continuity,
    Gap,
    GapReason,
    Place,
)

NOON = "2026-09-21T12:00:00.000Z"
A_MOMENT_LATER = "2026-09-21T12:00:59.999Z"
A_MINUTE_LATER = "2026-09-21T14:01:00+02:00"
LAST = Place(17, NOON)


def test_events_in_a_row_have_no_gap_and_neither_have_numbers_with_holes() -> None:
    """spec: F-20"""
    continuity = Continuity(LAST)
    seqs = [18, 19, 500, 1_400, 1_402]
    assert [continuity.advance(seq, A_MINUTE_LATER) for seq in seqs] == [None] * 5


def test_before_the_first_event_of_all_nothing_is_missing() -> None:
    continuity = Continuity(None)
    continuity.announce()
    assert continuity.advance(90_000_000, NOON) is None
    assert continuity.advance(90_000_001, NOON) is None


def test_an_outdated_cursor_is_a_gap_before_the_next_event_only() -> None:
    """spec: F-24"""
    continuity = Continuity(LAST)
    continuity.begin_connection()
    continuity.announce()
    assert continuity.advance(18, NOON) == Gap(GapReason.OUTDATED_CURSOR, LAST)
    assert continuity.advance(19, NOON) is None


def test_what_was_announced_on_a_connection_without_events_is_forgotten_with_it() -> None:
    continuity = Continuity(LAST)
    continuity.announce()
    continuity.begin_connection()
    assert continuity.advance(18, NOON) is None


def test_a_cursor_that_was_given_up_is_a_gap_over_all_connections_until_an_event() -> None:
    continuity = Continuity(LAST, is_given_up=True)
    continuity.begin_connection()
    continuity.announce()
    continuity.begin_connection()
    assert continuity.advance(3, NOON) == Gap(GapReason.CURSOR_GIVEN_UP, LAST)
    assert continuity.advance(4, NOON) is None


@pytest.mark.parametrize(
    ("count", "time", "is_jump"),
    [
        (JUMP_COUNT + 1, A_MINUTE_LATER, True),
        (JUMP_COUNT, A_MINUTE_LATER, False),
        (JUMP_COUNT + 1, A_MOMENT_LATER, False),
        (RENUMBERED_COUNT - 1, A_MOMENT_LATER, False),
        (RENUMBERED_COUNT, A_MOMENT_LATER, True),
        (RENUMBERED_COUNT, NOON, True),
        (JUMP_COUNT + 1, "yesterday", False),
        (RENUMBERED_COUNT, None, False),
    ],
)
def test_what_jumps_in_numbers_and_time_is_a_gap(
    count: int, time: str | None, is_jump: bool
) -> None:
    """spec: F-24, J-01: relays that do not say what they no longer have."""
    found = Continuity(LAST).advance(LAST.seq + count, time)
    assert found == (Gap(GapReason.JUMP, LAST) if is_jump else None)


def test_from_a_number_without_known_time_nothing_jumps() -> None:
    """A cursor that a person named need not be that of an event."""
    continuity = Continuity(Place(5, None))
    assert continuity.advance(90_000_000, NOON) is None
    assert continuity.advance(190_000_000, NOON) == Gap(GapReason.JUMP, Place(90_000_000, NOON))
