"""What the supervisor decides, event by event and with a clock of the test's own."""

import pytest

from pipelines.up.supervisor import (
    DEATHS_LIMIT,
    DEATHS_WINDOW_S,
    FIRST_PAUSE_S,
    MAX_PAUSE_S,
    STOP_TIMEOUT_S,
    Action,
    Alive,
    Child,
    Ended,
    Kill,
    Resting,
    Start,
    Supervisor,
    Terminate,
)

BRIDGE = Child("bridge", "relay.example", ("bridge",), 0)
WORKERS = [Child("explode", str(slot), ("explode",), 1) for slot in range(2)]
COMPACT = Child("compact", "0", ("compact",), 2)
NETWORK = Child("sim", "0", ("sim",), 9, is_replaceable=False)
STAGES = [BRIDGE, *WORKERS, COMPACT]


class Run:
    """A supervisor whose actions are carried out at once; children die when the test says so."""

    def __init__(self, *children: Child) -> None:
        self.supervisor = Supervisor()
        self.supervisor.add(children)
        self.now_s = 100.0
        self.pid = 0
        self.done: list[Action] = []
        self.step()

    def step(self, later_s: float = 0) -> list[Action]:
        """Moves the clock and carries out what is due."""
        self.now_s += later_s
        actions = self.supervisor.step(self.now_s)
        for action in actions:
            if isinstance(action, Start):
                self.pid += 1
                self.supervisor.started(action.child, self.pid)
        self.done += actions
        return actions

    def is_over(self) -> bool:
        return self.supervisor.is_over

    def exit(self, child: Child, exit_code: int = 0) -> None:
        self.supervisor.exited(child, exit_code, self.now_s)

    def die(self, child: Child, exit_code: int = -9) -> list[Action]:
        """Lets a child die and its pause pass."""
        self.exit(child, exit_code)
        return self.step(MAX_PAUSE_S)


def test_all_are_started_at_once_and_only_once() -> None:
    run = Run(*STAGES)
    assert run.done == [Start(child) for child in STAGES]
    assert run.step(1_000) == []
    assert run.supervisor.states()["explode.1"] == Alive(pid=3)


def test_further_children_are_started_later() -> None:
    run = Run(NETWORK)
    run.supervisor.add([BRIDGE])
    assert run.step() == [Start(BRIDGE)]


def test_who_dies_is_started_again_after_a_pause() -> None:
    run = Run(*STAGES)
    run.exit(WORKERS[1], -9)
    assert run.supervisor.states()["explode.1"] == Resting(-9, run.now_s + FIRST_PAUSE_S)
    assert run.step(FIRST_PAUSE_S / 2) == []
    assert run.step(FIRST_PAUSE_S / 2) == [Start(WORKERS[1])]
    assert run.supervisor.failure is None


def test_also_a_clean_end_that_nobody_asked_for_is_a_death() -> None:
    run = Run(BRIDGE)
    assert run.die(BRIDGE, exit_code=0) == [Start(BRIDGE)]


def test_pauses_double_up_to_a_limit() -> None:
    run = Run(BRIDGE)
    pauses_s = []
    for _ in range(DEATHS_LIMIT - 1):
        run.exit(BRIDGE, 1)
        state = run.supervisor.states()[BRIDGE.name]
        assert isinstance(state, Resting)
        pauses_s.append(state.until_s - run.now_s)
        run.step(pauses_s[-1])
    assert pauses_s == [min(FIRST_PAUSE_S * 2**n, MAX_PAUSE_S) for n in range(DEATHS_LIMIT - 1)]


def test_who_dies_again_and_again_within_a_minute_ends_the_run() -> None:
    run = Run(*STAGES)
    for _ in range(DEATHS_LIMIT - 1):
        assert run.die(WORKERS[0], 1) == [Start(WORKERS[0])]
    run.exit(WORKERS[0], 1)
    failure = run.supervisor.failure
    assert failure is not None
    assert failure.child is WORKERS[0]
    assert failure.reason == "died 5 times within a minute, the last time: exit code 1"
    # The others are stopped in order.
    assert run.step() == [Terminate(BRIDGE)]
    for child in (BRIDGE, WORKERS[1], COMPACT):
        run.exit(child)
        run.step()
    assert run.is_over()
    assert run.supervisor.failure is failure


def test_deaths_that_lie_apart_are_forgiven() -> None:
    run = Run(BRIDGE)
    for _ in range(3 * DEATHS_LIMIT):
        run.step(DEATHS_WINDOW_S / (DEATHS_LIMIT - 1) - MAX_PAUSE_S + 0.1)
        assert run.die(BRIDGE) == [Start(BRIDGE)]
    assert run.supervisor.failure is None


def test_deaths_of_different_children_do_not_add_up() -> None:
    run = Run(*STAGES)
    for _ in range(DEATHS_LIMIT - 1):
        for child in STAGES:
            run.exit(child, 1)
        assert len(run.step(MAX_PAUSE_S)) == len(STAGES)
    assert run.supervisor.failure is None


@pytest.mark.parametrize(
    ("child", "exit_code", "reason"),
    [
        (BRIDGE, 2, "cannot run with these settings"),
        (NETWORK, -9, "has ended: signal 9"),
        (NETWORK, 0, "has ended: exit code 0"),
    ],
)
def test_what_a_new_start_cannot_mend_ends_the_run_at_once(
    child: Child, exit_code: int, reason: str
) -> None:
    run = Run(BRIDGE, NETWORK)
    run.exit(child, exit_code)
    assert run.supervisor.is_stopping
    failure = run.supervisor.failure
    assert failure is not None
    assert (failure.child, failure.reason) == (child, reason)


def test_a_stop_goes_from_the_upstream_down_and_each_waits_for_the_ones_before() -> None:
    run = Run(NETWORK, *STAGES)
    run.supervisor.stop()
    assert run.step() == [Terminate(BRIDGE)]
    assert run.step(1) == []
    run.exit(BRIDGE)
    assert run.step() == [Terminate(WORKERS[0]), Terminate(WORKERS[1])]
    run.exit(WORKERS[1])
    assert run.step(1) == []
    run.exit(WORKERS[0])
    assert run.step() == [Terminate(COMPACT)]
    run.exit(COMPACT)
    assert run.step() == [Terminate(NETWORK)]
    assert not run.is_over()
    run.exit(NETWORK)
    assert run.is_over()
    assert run.supervisor.failure is None


def test_who_does_not_end_in_time_is_killed_once_and_was_not_clean() -> None:
    run = Run(BRIDGE, COMPACT)
    run.supervisor.stop()
    run.step()
    assert run.step(STOP_TIMEOUT_S - 1) == []
    assert run.step(1) == [Kill(BRIDGE)]
    assert run.step(1) == []
    run.exit(BRIDGE, -9)
    # Its successor in the order has its own time.
    assert run.step() == [Terminate(COMPACT)]
    assert run.step(STOP_TIMEOUT_S - 1) == []
    run.exit(COMPACT)
    failure = run.supervisor.failure
    assert failure is not None
    assert (failure.child, failure.reason) == (BRIDGE, "did not end cleanly: signal 9")


def test_who_is_ended_by_the_wish_to_stop_before_it_was_up_ended_cleanly() -> None:
    run = Run(BRIDGE)
    run.supervisor.stop()
    assert run.step() == [Terminate(BRIDGE)]
    run.exit(BRIDGE, -15)
    assert run.is_over()
    assert run.supervisor.failure is None


def test_a_second_stop_kills_what_is_left() -> None:
    run = Run(*STAGES)
    run.supervisor.stop()
    run.step()
    run.exit(BRIDGE)
    run.supervisor.stop()
    assert run.step() == [Kill(WORKERS[0]), Kill(WORKERS[1]), Kill(COMPACT)]
    assert run.step(1_000) == []
    run.supervisor.stop()  # a third one changes nothing
    assert run.step() == []
    for child in (*WORKERS, COMPACT):
        run.exit(child, -9)
    assert run.is_over()
    assert run.supervisor.failure is not None


def test_who_dies_while_the_others_are_stopped_is_not_started_again() -> None:
    run = Run(*STAGES)
    run.supervisor.stop()
    run.step()
    run.exit(COMPACT, 1)
    run.exit(BRIDGE)
    assert run.step(1_000) == [Terminate(WORKERS[0]), Terminate(WORKERS[1])]
    assert run.supervisor.states()[COMPACT.name] == Ended(1)


def test_who_rests_or_was_not_started_is_not_started_during_a_stop() -> None:
    run = Run(*STAGES)
    run.exit(WORKERS[0], -9)
    run.supervisor.add([NETWORK])
    run.supervisor.stop()
    assert run.step(1_000) == [Terminate(BRIDGE)]
    states = run.supervisor.states()
    assert (states[WORKERS[0].name], states[NETWORK.name]) == (Ended(-9), Ended(0))


def test_a_run_without_children_is_over_when_it_is_stopped() -> None:
    run = Run()
    assert not run.is_over()
    run.supervisor.stop()
    assert run.is_over()
