"""What the status shows of each upstream, from what the bridges report."""

import pytest
from rich.console import Console
from support.beats import NOW_US, beat

from pipelines.bridge.progress import Published, Received, report_of
from pipelines.bridge.vitals import Finding, Trouble
from pipelines.kafka.beat import Report
from pipelines.status.history import History
from pipelines.status.overview import Overview, look
from pipelines.status.plain import lines
from pipelines.status.screen import screen
from pipelines.status.upstreams import Upstream

A, B = "a.example", "b.example:2583"


def bridge_report(trouble: Trouble | None = None) -> Report:
    """What a bridge of two upstreams says."""
    received = {
        A: Received(
            first_count=900,
            later_count=99,
            duplicates_count=99,
            connections_count=1,
            last_received_us=NOW_US - 200_000,
            finding=None if trouble is None else Finding(trouble, 0.0, "why"),
            found_us=NOW_US - 60_000_000,
        ),
        B: Received(first_count=100, disconnected_by="connection refused"),
    }
    return report_of(received, Published(), is_leading=True)


def overview_of(report: Report) -> Overview:
    history = History()
    history.add(beat("bridge", state=report.state, counters=report.counters, groups=report.groups))
    return look(history, {}, NOW_US)


def test_each_upstream_is_shown_with_its_part() -> None:
    overview = overview_of(bridge_report())
    assert overview.upstreams == [
        Upstream(A, True, None, None, 900, 0.999, 1, None, None),
        Upstream(B, False, None, None, 100, 0.1, 900, None, None),
    ]
    assert overview.problems == []
    (process,) = overview.stages[0].processes
    assert process.detail == "1 of 2 upstreams, last frame 0.2 s ago"
    shown = "\n".join(lines(overview))
    assert (
        f"upstream {A}  connected  seq -  delay -  first 900  coverage 99.9 %  missing 1" in shown
    )
    assert f"upstream {B}  away  seq -  delay -  first 100  coverage 10.0 %  missing 900" in shown
    console = Console(width=80, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(screen(overview, "title", 80))
    assert "coverage" in capture.get()
    assert "99.9 %" in capture.get()


@pytest.mark.parametrize("trouble", Trouble)
def test_an_upstream_in_trouble_is_a_problem(trouble: Trouble) -> None:
    overview = overview_of(bridge_report(trouble))
    assert overview.upstreams[0].trouble == trouble
    (problem,) = overview.problems
    assert problem.startswith(f"upstream {A} is {trouble} for 60 s: its ")
    assert f"upstream {A}  {trouble}" in "\n".join(lines(overview))


def test_an_address_without_event_stream_is_a_problem() -> None:
    received = {
        A: Received(connections_count=1),
        B: Received(disconnected_by="HTTP 404", misaddressed_us=NOW_US - 60_000_000),
    }
    overview = overview_of(report_of(received, Published(), is_leading=True))
    (problem,) = overview.problems
    assert problem.startswith(f"upstream {B} is misaddressed for 60 s: there is no event stream ")
    assert f"upstream {B}  misaddressed" in "\n".join(lines(overview))


def test_the_upstreams_of_a_bridge_that_is_gone_or_stands_by_are_not_shown() -> None:
    report = bridge_report(Trouble.SILENT)
    history = History()
    history.add(beat("bridge", "0", age_s=60, counters=report.counters, groups=report.groups))
    deposed = report_of({A: Received(connections_count=1)}, Published(), is_leading=False)
    counters, groups = deposed.counters, deposed.groups
    history.add(beat("bridge", "1", counters=counters, groups=groups))
    overview = look(history, {}, NOW_US)
    assert overview.stages[0].processes[1].detail == "stands by"
    assert overview.upstreams == []
    assert not any(problem.startswith("upstream") for problem in overview.problems)
