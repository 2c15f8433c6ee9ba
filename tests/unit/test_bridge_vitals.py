"""When an upstream whose connection is open is taken for blind, and when it is not."""

from datetime import UTC, datetime

import pytest

from pipelines.bridge.vitals import (
    BELIEVABLE_DELAY_S,
    LEARNED_SLOTS,
    LIVE_DELAY_S,
    RECENT_SLOTS,
    RELEARN_S,
    SILENT_EXPECTED_COUNT,
    SLOT_S,
    SLOW_EXPECTED_COUNT,
    SLOW_PART,
    UNHEARD_S,
    USUAL_SLOTS,
    Trouble,
    Vitals,
    age_s,
)

EPOCH_US = 1_790_000_000_000_000
# What has to pass before anything can be said: what is usual, and what is recent.
LEARNING_SLOTS = LEARNED_SLOTS + RECENT_SLOTS


class Watched:
    """An upstream that is watched slot by slot."""

    def __init__(self, quiet_before_s: float = 0.0) -> None:
        self.vitals = Vitals(quiet_before_s)
        self.now_s = 0.0
        self.vitals.begin_connection(self.now_s)

    def bring(self, slots: int, count: int, delay_s: float = 0.5, growth: float = 0.0) -> None:
        """Lets slots pass with so many events each, which get older by `growth` s a second."""
        for _ in range(slots):
            for number in range(count):
                self.event(self.now_s + number * SLOT_S / count, delay_s)
            self.now_s += SLOT_S
            delay_s += growth * SLOT_S
            self.vitals.advance(self.now_s)

    def event(self, now_s: float, delay_s: float) -> None:
        received_us = EPOCH_US + int(now_s * 1e6)
        happened = datetime.fromtimestamp(received_us / 1e6 - delay_s, UTC)
        time = happened.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.vitals.observe(now_s, received_us, time)

    def trouble(self) -> Trouble | None:
        return None if self.vitals.finding is None else self.vitals.finding.trouble


def test_a_steady_upstream_is_well() -> None:
    watched = Watched()
    for _ in range(2 * USUAL_SLOTS):
        watched.bring(1, 50)
        assert watched.trouble() is None


def test_silence_where_much_is_usual_is_noticed_and_stays_until_it_ends() -> None:
    watched = Watched()
    watched.bring(LEARNING_SLOTS, 50)
    watched.bring(RECENT_SLOTS - 1, 0)
    assert watched.trouble() is not Trouble.SILENT
    watched.bring(1, 0)
    finding = watched.vitals.finding
    assert finding is not None
    assert finding.trouble is Trouble.SILENT
    assert finding.detail == "0 events in 60 s, where 300 are usual"
    watched.bring(2 * USUAL_SLOTS, 0)
    assert watched.vitals.finding == finding  # what is usual is not forgotten meanwhile
    watched.bring(RECENT_SLOTS, 50)
    assert watched.trouble() is None


@pytest.mark.parametrize(
    ("quiet_before_s", "patience_s"),
    [
        (0, UNHEARD_S),
        (-5, UNHEARD_S),
        (UNHEARD_S + 2 * SLOT_S, UNHEARD_S + 2 * SLOT_S),
        (2 * BELIEVABLE_DELAY_S, BELIEVABLE_DELAY_S),
    ],
)
def test_one_that_never_brought_anything_is_silent_after_as_long_as_it_was_quiet_before(
    quiet_before_s: float, patience_s: float
) -> None:
    watched = Watched(quiet_before_s)
    slots = round(patience_s / SLOT_S)
    watched.bring(slots - 1, 0)
    assert watched.trouble() is None
    watched.bring(1, 0)
    finding = watched.vitals.finding
    assert finding is not None
    assert finding.trouble is Trouble.SILENT
    assert finding.detail == f"no event in the first {patience_s:.0f} s"
    watched.event(watched.now_s, 0.5)
    watched.bring(2 * slots, 0)
    assert watched.trouble() is None


def test_the_wait_for_a_first_event_goes_on_over_connections_and_only_while_we_read() -> None:
    watched = Watched()
    slots = round(UNHEARD_S / SLOT_S)
    watched.bring(slots - RECENT_SLOTS, 0)
    watched.vitals.end_connection()
    watched.now_s += 2 * UNHEARD_S
    watched.vitals.begin_connection(watched.now_s)
    watched.vitals.hold_up()
    watched.bring(RECENT_SLOTS, 0)
    assert watched.trouble() is None
    watched.bring(1, 0)
    assert watched.trouble() is Trouble.SILENT


def test_the_age_of_an_event_is_told_where_its_time_can_be_read() -> None:
    assert age_s(EPOCH_US, "2026-09-21T14:13:10Z") == 10.0
    assert age_s(EPOCH_US, "yesterday") is None
    assert age_s(EPOCH_US, None) is None


@pytest.mark.parametrize(
    ("count", "is_noticed"),
    [
        (SILENT_EXPECTED_COUNT // RECENT_SLOTS, False),
        (SILENT_EXPECTED_COUNT // RECENT_SLOTS + 1, True),
    ],
)
def test_a_small_host_is_silent_by_right(count: int, is_noticed: bool) -> None:
    watched = Watched()
    watched.bring(LEARNING_SLOTS, count)
    watched.bring(RECENT_SLOTS, 0)
    assert (watched.trouble() is Trouble.SILENT) == is_noticed


def test_a_host_that_was_busy_for_some_minutes_is_not_missed_afterwards() -> None:
    watched = Watched()
    watched.bring(USUAL_SLOTS, 0)
    watched.bring(USUAL_SLOTS // 3, 100)
    watched.bring(2 * RECENT_SLOTS, 0)
    assert watched.trouble() is None


def test_far_less_than_usual_is_slow_until_half_of_it_is_back() -> None:
    watched = Watched()
    watched.bring(LEARNING_SLOTS, 100)
    watched.bring(RECENT_SLOTS, int(100 * SLOW_PART))
    assert watched.trouble() is None
    watched.bring(RECENT_SLOTS, int(100 * SLOW_PART) - 1)
    assert watched.trouble() is Trouble.SLOW
    watched.bring(RECENT_SLOTS, 49)
    assert watched.trouble() is Trouble.SLOW
    watched.bring(RECENT_SLOTS, 50)
    assert watched.trouble() is None


def test_of_few_events_far_less_is_chance() -> None:
    count = SLOW_EXPECTED_COUNT // RECENT_SLOTS
    watched = Watched()
    watched.bring(LEARNING_SLOTS, count)
    watched.bring(RECENT_SLOTS, 1)
    assert watched.trouble() is None


def test_what_has_been_slow_for_an_hour_is_usual() -> None:
    watched = Watched()
    watched.bring(LEARNING_SLOTS, 100)
    watched.bring(int(RELEARN_S / SLOT_S), 10)
    assert watched.trouble() is Trouble.SLOW
    watched.bring(2 * LEARNING_SLOTS, 10)
    assert watched.trouble() is None
    watched.bring(RECENT_SLOTS, 0)
    assert watched.trouble() is Trouble.SILENT


@pytest.mark.parametrize(
    ("delay_s", "growth", "is_stale"),
    [
        (LIVE_DELAY_S, 1.0, True),
        (LIVE_DELAY_S, 0.3, True),
        (LIVE_DELAY_S, 0.2, False),
        (10 * LIVE_DELAY_S, 0.0, False),
        (10 * LIVE_DELAY_S, -1.0, False),
        (0.0, 1.0, False),
        (2 * BELIEVABLE_DELAY_S, 1.0, False),
        (-2 * BELIEVABLE_DELAY_S, 1.0, False),
    ],
)
def test_events_that_are_ever_older_are_stale(
    delay_s: float, growth: float, is_stale: bool
) -> None:
    """Not those that are old and stay so, that catch up, or whose times mean nothing."""
    watched = Watched()
    watched.bring(RECENT_SLOTS, 20, delay_s, growth)
    assert (watched.trouble() is Trouble.STALE) == is_stale


def test_a_sender_with_a_wrong_clock_makes_nothing_stale() -> None:
    watched = Watched()
    for slot in range(3 * RECENT_SLOTS):
        watched.event(watched.now_s, 1_000.0 * slot)
        watched.bring(1, 5)
    assert watched.trouble() is None


def test_what_is_caught_up_is_not_usual() -> None:
    watched = Watched()
    watched.bring(USUAL_SLOTS, 500, delay_s=5_000.0, growth=-1.0)
    watched.bring(3 * RECENT_SLOTS, 35)
    assert watched.trouble() is None


def test_an_upstream_that_we_keep_waiting_is_not_to_blame() -> None:
    watched = Watched()
    watched.bring(LEARNING_SLOTS, 50)
    for _ in range(2 * RECENT_SLOTS):
        watched.vitals.hold_up()
        watched.bring(1, 0)
        assert watched.trouble() is None
    watched.bring(RECENT_SLOTS, 0)
    assert watched.trouble() is Trouble.SILENT


def test_what_came_while_we_slept_nobody_knows() -> None:
    watched = Watched()
    watched.bring(LEARNING_SLOTS, 50)
    watched.now_s += 100 * SLOT_S
    watched.vitals.advance(watched.now_s)
    watched.bring(RECENT_SLOTS - 1, 0)
    assert watched.trouble() is None


def test_a_new_connection_is_judged_anew_by_what_is_usual() -> None:
    watched = Watched()
    watched.bring(LEARNING_SLOTS, 50)
    watched.bring(RECENT_SLOTS, 0)
    watched.vitals.end_connection()
    assert watched.trouble() is None
    watched.now_s += 500.0
    watched.vitals.advance(watched.now_s)
    assert watched.trouble() is None
    watched.vitals.begin_connection(watched.now_s)
    watched.bring(RECENT_SLOTS - 1, 0)
    assert watched.trouble() is None
    watched.bring(1, 0)
    assert watched.trouble() is Trouble.SILENT
