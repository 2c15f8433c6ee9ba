"""Which repository is next: due times, places, hosts that rest, and who is put off."""

from dataclasses import replace

import pytest

from pipelines.atproto.syntax import Did
from pipelines.repair.requests import Cause, Request
from pipelines.resync import schedule as schedule_module
from pipelines.resync.jobs import MIN_BACK_OFF_US, Job, job_of
from pipelines.resync.schedule import (
    FREE_RUNS_COUNT,
    QUIET_US,
    Places,
    Schedule,
    Start,
)

SECOND_US = 1_000_000
NOW_US = 1_790_000_000 * SECOND_US
PLACES = Places(total_count=4, host_count=2, look_ups_count=8)
SLOW, QUICK = "slow.example.com", "quick.example.com"


def did(number: int) -> Did:
    return Did(f"did:plc:{number:024}")


def job(number: int, due_us: int = NOW_US) -> Job:
    request = Request(did(number), Cause.BACKFILL, None, None, None, NOW_US)
    return job_of(request, number, None, due_us)


def filled(*numbers: int, places: Places = PLACES) -> Schedule:
    schedule = Schedule(places)
    for number in numbers:
        schedule.put(job(number), partition=0)
    return schedule


def started(schedule: Schedule, now_us: int = NOW_US) -> list[tuple[Did, str | None]]:
    return [(start.job.did, start.host) for start in schedule.start(now_us)]


def locate(schedule: Schedule, host: str, now_us: int = NOW_US) -> None:
    """Ends all look-ups: everything is at one host."""
    for found, _ in started(schedule, now_us):
        schedule.located(found, host, now_us)


def test_a_job_is_looked_up_and_then_fetched_from_the_host_that_this_named() -> None:
    schedule = filled(1)
    assert list(schedule.start(NOW_US)) == [Start(job(1), 0, None)]
    assert started(schedule) == []
    schedule.located(did(1), QUICK, NOW_US)
    assert started(schedule) == [(did(1), QUICK)]
    assert schedule.counts == {"waiting": 0, "looking": 0, "fetching": 1}
    schedule.landed(did(1))
    schedule.finish(did(1), NOW_US)
    assert schedule.find(did(1)) is None
    assert schedule.counts == {"waiting": 0, "looking": 0, "fetching": 0}


def test_nothing_starts_before_its_time() -> None:
    schedule = Schedule(PLACES)
    schedule.put(job(1, NOW_US + 1), partition=0)
    assert started(schedule) == []
    assert started(schedule, NOW_US + 1) == [(did(1), None)]


def test_what_is_due_for_longest_comes_first() -> None:
    schedule = Schedule(replace(PLACES, look_ups_count=1))
    for number in (3, 1, 2):
        schedule.put(job(number, NOW_US + number), partition=0)
    later_us = NOW_US + 10
    order = []
    for _ in range(3):
        [found] = [found for found, host in started(schedule, later_us) if host is None]
        order.append(found)
        schedule.postpone(found, later_us + 1)
    assert order == [did(1), did(2), did(3)]


def test_look_ups_and_downloads_have_places_of_their_own() -> None:
    schedule = filled(*range(20))
    assert len(started(schedule)) == PLACES.look_ups_count
    assert started(schedule) == []
    for number in range(3):
        schedule.located(did(number), f"{number}.example.com", NOW_US)
    begun = started(schedule)
    assert [host for _, host in begun].count(None) == 3  # the places that became free
    assert len(begun) == 6


def test_a_slow_host_takes_none_but_its_own_places() -> None:
    schedule = filled(*range(8))
    locate(schedule, SLOW)
    assert started(schedule) == [(did(0), SLOW), (did(1), SLOW)]
    schedule.put(job(9), partition=0)
    schedule.put(job(10), partition=0)
    locate(schedule, QUICK)
    assert started(schedule) == [(did(9), QUICK), (did(10), QUICK)]
    schedule.landed(did(0))
    assert started(schedule) == [(did(2), SLOW)]


def test_in_all_no_more_than_the_places_run() -> None:
    schedule = filled(*range(8))
    for number, (found, _) in enumerate(started(schedule)):
        schedule.located(found, f"{number}.example.com", NOW_US)
    assert len(started(schedule)) == PLACES.total_count
    schedule.landed(did(0))
    assert len(started(schedule)) == 1


def test_a_host_that_wants_to_be_left_alone_is_and_others_go_on() -> None:
    schedule = filled(1, 2)
    locate(schedule, SLOW)
    schedule.rest(SLOW, NOW_US + 60 * SECOND_US)
    schedule.put(job(3), partition=0)
    locate(schedule, QUICK)
    assert started(schedule) == [(did(3), QUICK)]
    assert started(schedule, NOW_US + 59 * SECOND_US) == []
    later = started(schedule, NOW_US + 60 * SECOND_US)
    assert later == [(did(1), SLOW), (did(2), SLOW)]


def test_the_longest_wish_of_a_host_counts() -> None:
    schedule = filled(1)
    locate(schedule, SLOW)
    schedule.rest(SLOW, NOW_US + 60 * SECOND_US)
    schedule.rest(SLOW, NOW_US + 5 * SECOND_US)
    assert started(schedule, NOW_US + 6 * SECOND_US) == []


def test_hosts_that_rest_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule_module, "MAX_RESTING_COUNT", 3)
    schedule = filled(1)
    locate(schedule, SLOW)
    schedule.rest(SLOW, NOW_US + 60 * SECOND_US)
    for number in range(3):
        schedule.rest(f"{number}.example.com", NOW_US + 60 * SECOND_US)
    assert started(schedule) == [(did(1), SLOW)]


def test_what_is_put_off_is_looked_up_anew() -> None:
    schedule = filled(1)
    locate(schedule, QUICK)
    assert started(schedule) == [(did(1), QUICK)]
    schedule.postpone(did(1), NOW_US + 60 * SECOND_US)
    assert started(schedule, NOW_US + 59 * SECOND_US) == []
    assert started(schedule, NOW_US + 60 * SECOND_US) == [(did(1), None)]


def test_a_newer_request_changes_a_job_under_way_and_does_not_start_it_twice() -> None:
    schedule = filled(1)
    assert len(started(schedule)) == 1
    newer = replace(job(1), request_offset=99)
    schedule.put(newer, partition=0)
    assert started(schedule) == []
    assert schedule.find(did(1)) == newer


def test_a_partition_is_full_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule_module, "MAX_JOBS_COUNT", 2)
    schedule = Schedule(PLACES)
    schedule.put(job(1), partition=0)
    schedule.put(job(1), partition=0)
    assert not schedule.is_full(0)
    schedule.put(job(2), partition=0)
    assert schedule.is_full(0)
    assert not schedule.is_full(1)
    started(schedule)
    schedule.landed(did(1))
    schedule.finish(did(1), NOW_US)
    assert not schedule.is_full(0)


def test_whoever_breaks_again_and_again_waits_longer_each_time() -> None:
    """Spec: M-09."""
    schedule = Schedule(PLACES)
    now_us = NOW_US
    waits_us = []
    for _ in range(FREE_RUNS_COUNT + 3):
        due_us = schedule.first_due_us(did(1), now_us)
        waits_us.append(due_us - now_us)
        now_us = due_us
        schedule.put(job(1, due_us), partition=0)
        locate(schedule, QUICK, now_us)
        assert len(started(schedule, now_us)) == 1
        schedule.landed(did(1))
        schedule.finish(did(1), now_us)
    assert waits_us[:FREE_RUNS_COUNT] == [0] * FREE_RUNS_COUNT
    assert MIN_BACK_OFF_US <= waits_us[FREE_RUNS_COUNT] < waits_us[-2] < waits_us[-1]
    assert schedule.first_due_us(did(2), now_us) == now_us
    assert schedule.first_due_us(did(1), now_us + QUIET_US) == now_us + QUIET_US


def test_a_takeover_keeps_times_and_forgets_what_ran() -> None:
    schedule = filled(1, 2, 3)
    locate(schedule, QUICK)
    started(schedule)
    schedule.restore([(job(4), 1), (job(5, NOW_US + 9), 1)])
    assert schedule.find(did(1)) is None
    assert started(schedule) == [(did(4), None)]
    assert started(schedule, NOW_US + 9) == [(did(5), None)]
