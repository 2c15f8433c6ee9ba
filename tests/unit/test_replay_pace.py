"""Messages that come at their own pace, or some times faster."""

import pytest

from pipelines.replay.pace import Pace


class _Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


@pytest.mark.parametrize("speed", [1.0, 4.0, 0.5])
def test_each_message_waits_until_it_is_due(speed: float) -> None:
    clock = _Clock()
    pace = Pace(speed, clock, clock.sleep)
    due_s = []
    for time_ms in (50_000, 50_400, 50_300, 53_000):  # one is behind an older one
        for _ in pace.wait_for(time_ms):
            pass
        due_s.append(clock.now_s - 1_000)
    assert due_s == pytest.approx([0, 0.4 / speed, 0.4 / speed, 3 / speed], abs=0.003)


def test_it_can_be_stopped_every_fifth_of_a_second() -> None:
    clock = _Clock()
    pace = Pace(1, clock, clock.sleep)
    assert not list(pace.wait_for(0))
    assert len(list(pace.wait_for(1_000))) == len(clock.slept) >= 5
    assert max(clock.slept) == pytest.approx(0.2)


def test_who_is_late_does_not_wait() -> None:
    clock = _Clock()
    pace = Pace(1, clock, clock.sleep)
    assert not list(pace.wait_for(0))
    clock.now_s += 10
    assert not list(pace.wait_for(9_000))
    assert clock.slept == []
