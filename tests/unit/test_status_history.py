"""What is remembered of beats, and the rates that follow."""

import pytest
from support.beats import beat

from pipelines.status.history import RATE_WINDOW_S, History


def history_of(*points: tuple[float, int], started_s: float = 60) -> History:
    """A history of one process, from (age in seconds, count)."""
    history = History()
    for age_s, count in points:
        history.add(beat("explode", age_s=age_s, started_s=started_s, counters={"inputs": count}))
    return history


def test_a_rate_is_what_was_done_between_the_beats() -> None:
    history = history_of((4, 100), (2, 300), (0, 500))
    assert history.rate(b"explode.0", "inputs") == pytest.approx(100)


def test_without_two_beats_there_is_no_rate() -> None:
    assert history_of((0, 500)).rate(b"explode.0", "inputs") == 0
    assert history_of((0, 500)).rate(b"explode.1", "inputs") == 0
    assert history_of((2, 500), (0, 900)).rate(b"explode.0", "outputs") == 0


def test_two_beats_of_one_moment_give_no_rate() -> None:
    assert history_of((0, 500), (0, 900)).rate(b"explode.0", "inputs") == 0


def test_what_is_older_than_the_window_does_not_count() -> None:
    history = history_of((RATE_WINDOW_S + 30, 0), (RATE_WINDOW_S, 10_000), (0, 10_100))
    assert history.rate(b"explode.0", "inputs") == pytest.approx(100 / RATE_WINDOW_S)


def test_another_life_of_a_process_begins_anew() -> None:
    history = history_of((6, 1_000), (4, 2_000), started_s=60)
    history.add(beat("explode", age_s=2, started_s=3, counters={"inputs": 0}))
    assert history.rate(b"explode.0", "inputs") == 0
    history.add(beat("explode", age_s=0, started_s=3, counters={"inputs": 20}))
    assert history.rate(b"explode.0", "inputs") == pytest.approx(10)


def test_the_latest_beat_of_each_process_is_there_until_it_is_forgotten() -> None:
    history = history_of((2, 1), (0, 2))
    history.add(beat("explode", "1", counters={"inputs": 7}))
    assert {b.slot: b.report.counters["inputs"] for b in history.latest()} == {"0": 2, "1": 7}
    history.forget(b"explode.0")
    history.forget(b"explode.9")
    assert [b.slot for b in history.latest()] == ["1"]
