"""What a look at a pipeline shows, from beats, lags and what a supervisor knows."""

import pytest
from support.beats import NOW_US, beat

from pipelines.kafka.beat import Beat, State
from pipelines.kafka.lag import Lag
from pipelines.status.history import History
from pipelines.status.overview import (
    SILENT_AFTER_S,
    Condition,
    Overview,
    Process,
    Stage,
    Supervised,
    look,
)


def history_of(*beats: Beat) -> History:
    history = History()
    for each in beats:
        history.add(each)
    return history


def look_at(*beats: Beat, supervised: dict[str, Supervised] | None = None) -> Overview:
    return look(history_of(*beats), {}, NOW_US, supervised)


def processes(overview: Overview) -> dict[str, Process]:
    return {process.name: process for stage in overview.stages for process in stage.processes}


def stage_of(overview: Overview, name: str) -> Stage:
    (found,) = (stage for stage in overview.stages if stage.name == name)
    return found


def test_stages_are_in_the_order_of_the_flow_and_unknown_ones_last() -> None:
    overview = look_at(beat("explode"), beat("aaa"), beat("bridge", "relay.example"))
    assert [stage.name for stage in overview.stages] == ["bridge", "explode", "aaa"]
    assert overview.problems == []


def test_a_stage_is_the_sum_of_its_processes() -> None:
    counts = {"inputs": 100, "outputs": 200}
    overview = look(
        history_of(
            beat("explode", "0", age_s=2, counters={"inputs": 0, "outputs": 0}),
            beat("explode", "0", counters=counts),
            beat("explode", "1", age_s=2, counters={"inputs": 80, "outputs": 180}),
            beat("explode", "1", counters=counts),
            beat("explode", "2", state=State.FAILED, age_s=500, counters=counts),
        ),
        {"explode": Lag(7, is_exact=True, seconds=1.5)},
        NOW_US,
    )
    stage = stage_of(overview, "explode")
    assert (stage.taken_count, stage.given_count) == (300, 600)
    assert [stage.taken_per_s, stage.given_per_s] == pytest.approx([60, 110])
    assert stage.lag == Lag(7, is_exact=True, seconds=1.5)


def test_totals_come_from_the_stages_that_know_them() -> None:
    overview = look_at(
        beat("bridge", "a.example", counters={"received": 12, "frames": 10}),
        beat("bridge", "b.example", counters={"received": 5, "frames": 5}),
        beat(
            "explode",
            "0",
            groups={
                "proven": {"commit": 6, "sync": 1},
                "unsigned": {"identity": 3},
                "refused": {"frame.op": 2},
                "written": {"events": 10, "records": 9, "quarantine": 2},
            },
        ),
        beat("explode", "1", groups={"refused": {"frame.op": 1, "commit.rev": 1}}),
    )
    assert overview.frames_count == 15
    assert overview.proven_count == 7
    assert overview.refused == {"frame.op": 3, "commit.rev": 1}
    assert overview.records_count == 9


def test_what_a_dead_process_had_in_hand_is_not_added_to_what_its_heir_has() -> None:
    groups = {
        "repos": {"synchronized": 10},
        "parked": {"frames": 7, "accounts": 2},
        "refused": {"frame.op": 1},
    }
    overview = look_at(
        beat("compact", "0", groups=groups),
        beat("compact", "1", age_s=SILENT_AFTER_S + 1, groups=groups),
    )
    assert overview.repos == {"synchronized": 10}
    assert overview.parked == {"frames": 7, "accounts": 2}
    assert overview.refused == {"frame.op": 2}


def test_that_nothing_is_parked_is_not_worth_a_line() -> None:
    assert look_at(beat("explode", groups={"parked": {"frames": 0, "accounts": 0}})).parked == {}


def test_a_process_is_silent_when_it_has_missed_some_beats() -> None:
    quiet = beat("explode", "0", age_s=SILENT_AFTER_S)
    silent = beat("explode", "1", age_s=SILENT_AFTER_S + 24, pid=4711)
    overview = look_at(quiet, silent)
    found = processes(overview)
    assert found["explode.0"].condition is Condition.RUNNING
    assert found["explode.1"].condition is Condition.SILENT
    assert found["explode.1"].seconds == pytest.approx(SILENT_AFTER_S + 24)
    (problem,) = overview.problems
    assert "explode.1 is silent" in problem
    assert "pid 4711 on worker-1" in problem
    assert "standpipe status --forget explode.1" in problem


def test_who_has_stopped_is_not_silent() -> None:
    overview = look_at(
        beat("bridge", "x"),
        beat("explode", "0"),
        beat("explode", "1", state=State.STOPPED, age_s=9e6),
    )
    assert overview.problems == []
    # Its slot is no longer used: neither it nor its counts are shown.
    assert [process.slot for process in stage_of(overview, "explode").processes] == ["0"]


def test_a_failed_process_is_a_problem_with_its_reason() -> None:
    overview = look_at(
        beat("explode", "0"), beat("explode", "1", state=State.FAILED, detail="FencedError: rival")
    )
    (problem,) = overview.problems
    assert "explode.1 is failed: FencedError: rival" in problem


def test_waiting_is_no_problem_and_says_for_what() -> None:
    overview = look_at(beat("explode", state=State.WAITING, detail="the directory is away"))
    assert processes(overview)["explode.0"].detail == "the directory is away"
    assert overview.problems == []


def test_when_nothing_runs_that_is_the_problem() -> None:
    assert "nothing runs" in look_at().problems[0]
    stopped = look_at(
        beat("bridge", "x", state=State.STOPPED), beat("explode", state=State.STOPPED)
    )
    (problem,) = stopped.problems
    assert "nothing runs" in problem
    assert len(stage_of(stopped, "explode").processes) == 1


def test_a_stage_that_has_stopped_while_others_run_is_a_problem() -> None:
    overview = look_at(beat("bridge", "x"), beat("explode", state=State.STOPPED))
    (problem,) = overview.problems
    assert problem.startswith("no explode runs")


def test_an_import_that_has_come_to_its_end_is_no_problem() -> None:
    overview = look_at(beat("bridge", "x"), beat("identity", "import", state=State.STOPPED))
    assert overview.problems == []


def test_details_tell_what_a_process_is_at() -> None:
    overview = look_at(
        beat("bridge", "x", counters={"last_received_us": NOW_US - 1_500_000}),
        beat("explode", "0", counters={"partitions": 1}),
        beat("explode", "1", counters={"partitions": 3}),
    )
    details = {name: process.detail for name, process in processes(overview).items()}
    assert details == {
        "bridge.x": "last frame 1.5 s ago",
        "explode.0": "1 partition",
        "explode.1": "3 partitions",
    }


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Supervised(Condition.RUNNING, pid=17), (Condition.RUNNING, "", 17)),
        # The beat is its predecessor's.
        (Supervised(Condition.RUNNING, pid=18), (Condition.STARTING, "", 18)),
        (
            Supervised(Condition.RESTARTING, "ended with exit code 1"),
            (Condition.RESTARTING, "ended with exit code 1", None),
        ),
        (Supervised(Condition.STOPPED), (Condition.STOPPED, "", None)),
    ],
)
def test_who_started_a_process_knows_more(
    known: Supervised, expected: tuple[Condition, str, int | None]
) -> None:
    overview = look_at(beat("explode", pid=17), supervised={"explode.0": known})
    process = processes(overview)["explode.0"]
    assert (process.condition, process.detail, process.pid) == expected


def test_who_supervises_does_not_see_stopped_processes_of_former_runs() -> None:
    overview = look_at(
        beat("bridge", "old.example", state=State.STOPPED, counters={"frames": 5}),
        beat("explode", "9"),
        supervised={
            "bridge.new.example": Supervised(Condition.STOPPED),
            "explode.0": Supervised(Condition.STOPPED),
        },
    )
    assert processes(overview).keys() == {"bridge.new.example", "explode.9"}
    assert overview.frames_count == 0
    assert overview.problems == []  # it stopped them itself


def test_a_process_that_did_not_beat_yet_is_starting() -> None:
    overview = look_at(supervised={"explode.0": Supervised(Condition.RUNNING, pid=5)})
    process = processes(overview)["explode.0"]
    assert (process.condition, process.seconds) == (Condition.STARTING, None)
    assert overview.problems == []
