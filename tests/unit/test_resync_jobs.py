"""What is asked for of repositories: merged, put off after failures, and kept as messages."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wire
from support.repo import DID, OTHER_DID

from pipelines.atproto.syntax import Tid
from pipelines.kafka.topics import validator
from pipelines.repair.requests import Cause, Request
from pipelines.resync.jobs import (
    MAX_BACK_OFF_US,
    MAX_ERROR_LENGTH,
    MIN_BACK_OFF_US,
    Job,
    back_off_us,
    done_message,
    failed,
    is_satisfied,
    job_message,
    job_of,
    parse_job,
)
from pipelines.resync.sources import choose_source

NOW_US = 1_790_000_000_000_000


def request(rev: str | None = None, **changes: object) -> Request:
    fields: dict[str, object] = {
        "did": DID,
        "cause": Cause.DESYNCHRONIZED,
        "reason": "chain.since",
        "min_rev": rev,
        "host": None,
        "requested_us": NOW_US,
    }
    return Request(**fields | changes)  # type: ignore[arg-type]  # as the test wants them


def job(rev: str | None = None, **changes: object) -> Job:
    return job_of(request(rev, **changes), 7, None, NOW_US)


def test_the_first_wait_is_a_minute_and_the_longest_an_hour() -> None:
    """Spec: I-07."""
    waits_us = [back_off_us(DID, attempts) for attempts in range(1, 50)]
    assert MIN_BACK_OFF_US <= waits_us[0] <= 1.25 * MIN_BACK_OFF_US
    assert waits_us == sorted(waits_us)
    assert waits_us[-1] == MAX_BACK_OFF_US


@given(st.integers(1, 6))
def test_a_wait_is_twice_the_one_before_within_its_spread(attempts: int) -> None:
    doubled_us = MIN_BACK_OFF_US * 2 ** (attempts - 1)
    wait_us = back_off_us(DID, attempts)
    assert min(doubled_us, MAX_BACK_OFF_US) <= wait_us <= min(1.25 * doubled_us, MAX_BACK_OFF_US)
    assert wait_us == back_off_us(DID, attempts)


def test_what_failed_together_does_not_come_back_together() -> None:
    waits_us = {back_off_us(f"{DID}{n}", 1) for n in range(100)}  # type: ignore[arg-type]
    assert len(waits_us) > 90


def test_a_failure_is_counted_and_its_error_kept_short() -> None:
    once = failed(job(), "x" * 9_999, NOW_US, is_last_source=True)
    assert (once.attempts, once.last_error) == (1, "x" * MAX_ERROR_LENGTH)
    assert once.not_before_us == NOW_US + back_off_us(DID, 1)
    twice = failed(once, "again", NOW_US, is_last_source=True)
    assert (twice.attempts, twice.not_before_us) == (2, NOW_US + back_off_us(DID, 2))


def test_another_server_is_asked_at_once() -> None:
    assert failed(job(), "stale", NOW_US, is_last_source=False).not_before_us == NOW_US


def test_whoever_asks_again_is_not_served_sooner() -> None:
    """Spec: M-09."""
    pending = failed(job(wire.rev(5)), "away", NOW_US, is_last_source=True)
    again = job_of(request(wire.rev(3), cause=Cause.AUDIT), 9, pending, NOW_US)
    assert (again.attempts, again.not_before_us) == (1, pending.not_before_us)
    assert again.last_error == "away"
    assert (again.request_offset, again.cause) == (9, Cause.AUDIT)


@pytest.mark.parametrize(
    ("before", "after", "merged"), [(5, 3, 5), (3, 5, 5), (None, 5, 5), (5, None, 5)]
)
def test_the_highest_revision_of_all_requests_has_to_be_reached(
    before: int | None, after: int | None, merged: int
) -> None:
    """Spec: I-05."""
    first, second = (None if n is None else wire.rev(n) for n in (before, after))
    pending = job(first)
    assert job_of(request(second), 9, pending, NOW_US).min_rev == wire.rev(merged)


def test_a_revision_is_enough_from_the_one_that_was_asked_for_on() -> None:
    asked = job(wire.rev(5))
    assert not is_satisfied(asked, Tid(wire.rev(4)))
    assert is_satisfied(asked, Tid(wire.rev(5)))
    assert is_satisfied(asked, Tid(wire.rev(6)))
    assert is_satisfied(job(None), Tid(wire.rev(0)))


def test_a_message_holds_the_whole_job() -> None:
    kept = failed(
        job(wire.rev(5), host="https://pds.example.com"), "away", NOW_US, is_last_source=True
    )
    message = job_message(kept, 3, "x.repairs")
    assert (message.topic, message.partition, message.key) == ("x.repairs", 3, DID.encode())
    assert message.value is not None
    validator("repairs", 1).validate(json.loads(message.value))
    assert parse_job(message.value) == kept
    done = done_message(kept, 3, "x.repairs")
    assert (done.key, done.value, done.headers) == (message.key, None, message.headers)


@pytest.mark.parametrize("value", [b"{}", b"[]", b'{"cause":"audit"}', b"1", b"{"])
def test_a_message_of_another_shape_is_a_defect(value: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of any kind
        parse_job(value)


class TestSources:
    """Whom to ask (spec: I-05, I-06)."""

    OWN, NAMED = "https://pds.example.com", "https://relay.example.com"

    def after(self, attempts: int, host: str | None) -> Job:
        tried = job(host=host)
        for _ in range(attempts):
            tried = failed(tried, "no", NOW_US, is_last_source=True)
        return tried

    def test_the_named_one_comes_first_and_then_the_own_one_which_has_the_last_word(self) -> None:
        sources = [choose_source(self.after(n, host=self.NAMED), self.OWN) for n in range(4)]
        assert sources == [(self.NAMED, False), (self.OWN, True)] * 2

    @pytest.mark.parametrize(
        ("host", "own"), [(None, OWN), (NAMED, None), (OWN, OWN)], ids=["own", "named", "same"]
    )
    def test_a_single_one_has_the_last_word(self, host: str | None, own: str | None) -> None:
        for attempts in range(3):
            source = choose_source(self.after(attempts, host=host), own)
            assert source == (host or own, True)

    @pytest.mark.parametrize(
        "host",
        [
            *("pds.example.com", "ftp://pds.example.com", "https://", "https://pds.example.com:x"),
            *("https://pds.example.com/path", "https://user@pds.example.com", "https://[::1", "?"),
        ],
    )
    def test_what_can_be_no_server_is_passed_over(self, host: str) -> None:
        assert choose_source(self.after(0, host=host), self.OWN) == (self.OWN, True)
        assert choose_source(self.after(0, host=host), None) is None

    def test_there_may_be_none(self) -> None:
        assert choose_source(job(), None) is None


def test_other_accounts_have_other_waits() -> None:
    assert back_off_us(DID, 1) != back_off_us(OTHER_DID, 1)
