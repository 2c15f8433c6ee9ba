"""Repositories to be fetched: whatever happens, places are kept and everything is served."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.atproto.syntax import Did
from pipelines.repair.requests import Cause, Request
from pipelines.resync.jobs import job_of
from pipelines.resync.schedule import Places, Schedule

SECOND_US = 1_000_000
NOW_US = 1_790_000_000 * SECOND_US
PLACES = Places(total_count=4, host_count=2, look_ups_count=8)
HOSTS = "abc"


def filled(count: int) -> Schedule:
    schedule = Schedule(PLACES)
    for number in range(count):
        did = Did(f"did:plc:{number:024}")
        request = Request(did, Cause.BACKFILL, None, None, None, NOW_US)
        schedule.put(job_of(request, number, None, NOW_US), partition=0)
    return schedule


@given(st.data())
def test_whatever_happens_places_are_kept_and_everything_is_served(data: st.DataObject) -> None:
    numbers = range(data.draw(st.integers(1, 20), "jobs"))
    hosts = {n: data.draw(st.sampled_from(HOSTS), f"host of {n}") for n in numbers}
    schedule = filled(len(numbers))
    left, now_us = set(numbers), NOW_US
    running: dict[Did, str | None] = {}
    failures_left = 20
    while left:
        for start in schedule.start(now_us):
            assert start.job.did not in running
            running[start.job.did] = start.host
        fetching = [host for host in running.values() if host is not None]
        assert len(fetching) <= PLACES.total_count
        assert all(fetching.count(host) <= PLACES.host_count for host in HOSTS)
        assert len(running) - len(fetching) <= PLACES.look_ups_count
        counts = schedule.counts
        assert (counts["fetching"], counts["looking"]) == (
            len(fetching),
            len(running) - len(fetching),
        )
        if not running:
            now_us += SECOND_US
            continue
        ended = data.draw(st.sampled_from(sorted(running)), "ended")
        number = int(ended.removeprefix("did:plc:"))
        host = running.pop(ended)
        if host is None:
            schedule.located(ended, hosts[number], now_us)
        elif failures_left and data.draw(st.booleans(), "in vain"):
            failures_left -= 1
            schedule.postpone(ended, now_us + SECOND_US)
            schedule.rest(host, now_us + data.draw(st.integers(0, 3), "rest") * SECOND_US)
        else:
            schedule.landed(ended)
            schedule.finish(ended, now_us)
            left.discard(number)
    assert schedule.counts == {"waiting": 0, "looking": 0, "fetching": 0}
