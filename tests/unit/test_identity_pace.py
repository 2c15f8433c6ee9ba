"""The pace of look-ups: rates, pauses of hosts that are away, and what a host asks for."""

import pytest

from pipelines.identity import pace
from pipelines.identity.pace import Pace, PaceLimits, TokenBucket, parse_retry_after

_NEVER_TOO_LONG = 1e9
# Sunday, 6 November 1994, 08:49:37 GMT: the example of RFC 9110.
_DATE, _DATE_S = "Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(per_s=10, burst_count=3)
    waits = [bucket.reserve(100.0, _NEVER_TOO_LONG) for _ in range(6)]
    assert waits == [0, 0, 0, pytest.approx(0.1), pytest.approx(0.2), pytest.approx(0.3)]


def test_a_bucket_fills_up_again_and_not_beyond_its_burst() -> None:
    bucket = TokenBucket(per_s=10, burst_count=2)
    assert [bucket.reserve(0.0, _NEVER_TOO_LONG) for _ in range(2)] == [0, 0]
    assert bucket.reserve(0.1, _NEVER_TOO_LONG) == 0
    assert [bucket.reserve(1_000.0, _NEVER_TOO_LONG) for _ in range(3)] == [
        0,
        0,
        pytest.approx(0.1),
    ]


def test_a_wait_that_is_too_long_takes_no_token() -> None:
    bucket = TokenBucket(per_s=1, burst_count=1)
    assert bucket.reserve(0.0, 0.5) == 0
    assert [bucket.reserve(0.0, 0.5) for _ in range(100)] == [None] * 100
    assert bucket.reserve(0.6, 0.5) == pytest.approx(0.4)


def test_the_rate_holds_over_any_stretch_of_time() -> None:
    bucket = TokenBucket(per_s=7, burst_count=4)
    sent_s = []
    for step in range(200):
        now_s = step * 0.05
        wait_s = bucket.reserve(now_s, 1.0)
        if wait_s is not None:
            sent_s.append(now_s + wait_s)
    for start in range(len(sent_s)):
        for end in range(start, len(sent_s)):
            allowed = 4 + 7 * (sent_s[end] - sent_s[start])
            assert end - start + 1 <= allowed + 1e-6


@pytest.fixture
def host() -> Pace:
    return Pace(PaceLimits(concurrent_count=1, per_s=1_000, burst_count=1_000))


def _fail(host: Pace, count: int, now_s: float, chance: float = 1.0) -> None:
    for _ in range(count):
        host.failed(now_s, now_s, chance)


def test_single_failures_do_not_stop_anybody(host: Pace) -> None:
    _fail(host, pace.SUSPECT_FAILURES_COUNT - 1, 10.0)
    assert host.admit(10.0, 5.0) == 0
    host.answered(10.0)
    _fail(host, pace.SUSPECT_FAILURES_COUNT - 1, 11.0)
    assert host.admit(11.0, 5.0) == 0


def test_a_host_that_is_away_is_found_out_by_one_request_while_others_are_held(
    host: Pace,
) -> None:
    _fail(host, pace.SUSPECT_FAILURES_COUNT, 10.0)
    assert host.admit(10.2, 5.0) == pytest.approx(pace.MIN_PAUSE_S - 0.2)
    assert host.admit(11.0, 5.0) == 0
    assert host.admit(11.0, 5.0) == 5.0
    host.answered(11.0)
    assert [host.admit(11.1, 5.0) for _ in range(3)] == [0, 0, 0]


def test_each_failed_probe_doubles_the_pause_up_to_its_longest(host: Pace) -> None:
    _fail(host, pace.SUSPECT_FAILURES_COUNT, 0.0)
    now_s = 0.0
    pauses = []
    for _ in range(9):
        held_s = host.admit(now_s, 5.0)
        pauses.append(held_s)
        now_s += held_s
        assert host.admit(now_s, 5.0) == 0
        host.failed(now_s, now_s, 1.0)
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])
    host.answered(now_s)
    _fail(host, pace.SUSPECT_FAILURES_COUNT, now_s)
    assert host.admit(now_s, 5.0) == pytest.approx(pace.MIN_PAUSE_S)


def test_failures_of_requests_sent_before_the_pause_tell_nothing_new(host: Pace) -> None:
    _fail(host, pace.SUSPECT_FAILURES_COUNT, 10.0)
    for _ in range(50):
        host.failed(9.9, 10.5, 1.0)
    assert host.admit(10.5, 5.0) == pytest.approx(0.5)


def test_a_probe_without_any_outcome_holds_the_others_for_a_time_only(host: Pace) -> None:
    _fail(host, pace.SUSPECT_FAILURES_COUNT, 0.0)
    assert host.admit(2.0, 5.0) == 0
    assert host.admit(6.9, 5.0) > 0
    assert host.admit(7.0, 5.0) == 0


def test_the_ends_of_pauses_are_spread(host: Pace) -> None:
    _fail(host, pace.SUSPECT_FAILURES_COUNT, 0.0, chance=0.0)
    assert host.admit(0.0, 5.0) == pytest.approx(pace.MIN_PAUSE_S / 2)


def test_a_pause_that_was_asked_for_is_kept_although_others_are_answered(host: Pace) -> None:
    host.overloaded(0.0, 0.0, 30.0, 0.0)
    host.answered(0.0)
    assert host.admit(29.0, 5.0) == pytest.approx(1.0)
    assert host.admit(30.0, 5.0) == 0


def test_a_pause_that_was_asked_for_has_a_bound_and_is_never_shortened(host: Pace) -> None:
    host.overloaded(0.0, 0.0, 1e9, 0.0)
    host.overloaded(0.0, 0.0, 1.0, 0.0)
    assert host.admit(0.0, 5.0) == pace.MAX_RETRY_AFTER_S


def test_after_a_pause_that_was_asked_for_there_is_no_burst(host: Pace) -> None:
    host.overloaded(0.0, 0.0, 2.0, 0.0)
    waits = [host.bucket.reserve(2.0, _NEVER_TOO_LONG) for _ in range(3)]
    assert waits == [pytest.approx(0.001), pytest.approx(0.002), pytest.approx(0.003)]


def test_what_is_drained_stays_so_until_its_time() -> None:
    bucket = TokenBucket(per_s=1, burst_count=5)
    bucket.drain(100.0)
    assert bucket.reserve(99.0, 0.5) is None
    assert bucket.reserve(101.0, 0.0) == 0
    assert bucket.reserve(101.0, 0.5) is None
    assert bucket.reserve(101.0, 1.0) == 1
    bucket.drain(101.0)
    assert bucket.reserve(101.0, 2.0) == 2, "a token that was taken ahead came back"


def test_an_overloaded_host_that_names_no_time_gets_longer_and_longer_pauses(host: Pace) -> None:
    host.overloaded(0.0, 0.0, None, 1.0)
    host.overloaded(-1.0, 0.1, None, 1.0)  # sent before the pause
    assert host.admit(0.0, 5.0) == pytest.approx(1.0)
    host.overloaded(1.0, 1.0, None, 1.0)
    assert host.admit(1.0, 5.0) == pytest.approx(2.0)
    host.answered(3.0)
    host.overloaded(4.0, 4.0, None, 1.0)
    assert host.admit(4.0, 5.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("17", 17.0),
        (" 0 ", 0.0),
        (_DATE, 100.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 100.0),
        ("Sun Nov  6 08:49:37 1994", 100.0),
        ("Sun, 06 Nov 1994 08:40:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("999999999", pace.MAX_RETRY_AFTER_S),
        ("Sun, 06 Nov 2094 08:49:37 GMT", pace.MAX_RETRY_AFTER_S),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("9999999999", None),
        ("Sun, 06 Nov 99999 08:49:37 GMT", None),
        ("Sun, 32 Nov 1994 08:49:37 GMT", None),
        ("\u0661\u0667", None),
    ],
)
def test_both_forms_of_retry_after(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, _DATE_S - 100) == seconds
