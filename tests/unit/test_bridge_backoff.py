"""How long the bridge waits before it connects again."""

import pytest

from pipelines.bridge.backoff import (
    FIRST_PAUSE_S,
    HEALTHY_S,
    LONG_PAUSE_S,
    MAX_PAUSE_S,
    MAX_RETRY_AFTER_S,
    Backoff,
    Pause,
)


def pauses(backoff: Backoff, count: int) -> list[float]:
    return [backoff.next_pause_s(Pause.BACK_OFF, connected_s=0) for _ in range(count)]


def test_pauses_double_up_to_a_limit() -> None:
    found = pauses(Backoff(lambda: 1.0), 2000)
    assert found[:6] == [FIRST_PAUSE_S * 2**n for n in range(6)]
    assert set(found[6:]) == {MAX_PAUSE_S}


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_chance_shortens_a_pause_by_half_at_most(chance: float, factor: float) -> None:
    assert pauses(Backoff(lambda: chance), 3) == [
        factor * FIRST_PAUSE_S,
        factor * FIRST_PAUSE_S * 2,
        factor * FIRST_PAUSE_S * 4,
    ]


def test_a_connection_that_lasted_starts_the_count_anew() -> None:
    backoff = Backoff(lambda: 1.0)
    pauses(backoff, 5)
    assert backoff.next_pause_s(Pause.BACK_OFF, connected_s=HEALTHY_S) == FIRST_PAUSE_S


def test_a_short_connection_does_not() -> None:
    backoff = Backoff(lambda: 1.0)
    pauses(backoff, 2)
    pause_s = backoff.next_pause_s(Pause.BACK_OFF, connected_s=HEALTHY_S - 1)
    assert pause_s == FIRST_PAUSE_S * 4


def test_at_once_is_at_once_and_no_failure() -> None:
    backoff = Backoff(lambda: 1.0)
    assert backoff.next_pause_s(Pause.AT_ONCE, connected_s=FIRST_PAUSE_S) == 0
    assert pauses(backoff, 1) == [FIRST_PAUSE_S]


def test_who_cuts_us_off_at_once_again_and_again_is_waited_for() -> None:
    backoff = Backoff(lambda: 1.0)
    found = [backoff.next_pause_s(Pause.AT_ONCE, connected_s=0.01) for _ in range(4)]
    assert found == [FIRST_PAUSE_S * 2**n for n in range(4)]


def test_a_long_pause_is_long_from_the_first_time_on() -> None:
    backoff = Backoff(lambda: 1.0)
    found = [backoff.next_pause_s(Pause.LONG, connected_s=0) for _ in range(3)]
    assert found == [LONG_PAUSE_S] * 3


@pytest.mark.parametrize(
    ("asked_s", "expected_s"),
    [(0.0, FIRST_PAUSE_S), (30.0, 30.0), (10 * MAX_RETRY_AFTER_S, MAX_RETRY_AFTER_S)],
    ids=["less", "more", "unreasonable"],
)
def test_the_upstream_may_ask_for_a_longer_pause(asked_s: float, expected_s: float) -> None:
    """spec: F-02"""
    backoff = Backoff(lambda: 1.0)
    found = backoff.next_pause_s(Pause.BACK_OFF, connected_s=0, retry_after_s=asked_s)
    assert found == expected_s
