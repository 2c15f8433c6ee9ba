"""A look at a pipeline as one screen of a terminal. Pure: an `Overview` in, a renderable out."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipelines.status.overview import Condition, Overview, Stage
from pipelines.status.text import (
    behind_text,
    count_text,
    coverage_text,
    duration_text,
    lag_text,
    rate_text,
)
from pipelines.status.upstreams import upstream_state

# Members of a group in one line; the rest is summed up.
SHOWN_MEMBERS_COUNT = 12
# Columns that all numbers need once they have seven digits.
FULL_WIDTH = 76

_STYLES = {
    Condition.RUNNING: "green",
    Condition.STARTING: "cyan",
    Condition.RESTORING: "cyan",
    Condition.WAITING: "yellow",
    Condition.RESTARTING: "yellow",
    Condition.STOPPED: "dim",
    Condition.FAILED: "bold red",
    Condition.SILENT: "bold red",
}


def screen(overview: Overview, title: str, width: int) -> RenderableType:
    """Returns the whole screen.

    Args:
        overview: what there is to see.
        title: which pipeline it is.
        width: columns of the terminal; where there are few, some numbers are left out.
    """
    parts: list[RenderableType] = [
        _heading(overview, title),
        Text(),
        _totals(overview),
        Text(),
        _stages(overview, has_outputs=width >= FULL_WIDTH),
        Text(),
        _processes(overview),
    ]
    if len(overview.upstreams) > 1:
        parts += [Text(), _upstreams(overview)]
    groups = list(_groups(overview))
    if groups:
        parts += [Text(), _grid(groups)]
    if overview.problems:
        parts.append(Text())
    parts += [Text(problem, style="bold red") for problem in overview.problems]
    return Group(*parts)


def _heading(overview: Overview, title: str) -> RenderableType:
    time = datetime.fromtimestamp(overview.time_us / 1e6, UTC).strftime("%H:%M:%S UTC")
    if overview.problems:
        count = len(overview.problems)
        verdict = Text("1 problem" if count == 1 else f"{count} problems", style="bold red")
    else:
        verdict = Text("all well", style="bold green")
    table = Table.grid(expand=True, padding=(0, 2))
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    table.add_row(Text(title, style="bold"), Text.assemble(verdict, f"  {time}"))
    return table


def _totals(overview: Overview) -> RenderableType:
    refused_count = sum(overview.refused.values())
    text = Text()
    for name, number, style in (
        ("frames", f"{count_text(overview.frames_count)}", ""),
        ("", f"{rate_text(overview.frames_per_s)}/s", ""),
        ("proven", count_text(overview.proven_count), "green"),
        ("refused", count_text(refused_count), "yellow" if refused_count else ""),
        ("records", count_text(overview.records_count), ""),
    ):
        text.append(f"{name} " if name else "", style="dim")
        text.append(f"{number}   ", style=style or "bold")
    return text


def _stages(overview: Overview, *, has_outputs: bool) -> RenderableType:
    table = _table(expand=False)
    table.add_column("stage", no_wrap=True)
    outputs = ("out", "/s") if has_outputs else ()
    for name in ("alive", "in", "/s", *outputs, "behind", "lag"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in overview.stages:
        given = (count_text(stage.given_count), rate_text(stage.given_per_s))
        table.add_row(
            stage.name,
            _alive(stage),
            count_text(stage.taken_count),
            rate_text(stage.taken_per_s),
            *(given if has_outputs else ()),
            behind_text(stage.lag),
            lag_text(stage.lag),
        )
    return table


def _alive(stage: Stage) -> Text:
    """Returns how many of the processes are alive."""
    total = len(stage.processes)
    count = sum(process.condition.is_alive for process in stage.processes)
    return Text(f"{count}/{total}", style="green" if count == total else "bold red")


def _processes(overview: Overview) -> RenderableType:
    table = _table(expand=True)
    table.add_column("process", no_wrap=True, overflow="ellipsis")
    table.add_column("state", no_wrap=True)
    table.add_column("for", justify="right", no_wrap=True)
    table.add_column("", overflow="fold", ratio=1)
    for stage in overview.stages:
        for process in stage.processes:
            table.add_row(
                f"{process.stage} {process.slot}",
                Text(process.condition, style=_STYLES[process.condition]),
                duration_text(process.seconds),
                process.detail,
            )
    return table


def _upstreams(overview: Overview) -> RenderableType:
    table = _table(expand=False)
    table.add_column("upstream", no_wrap=True, overflow="ellipsis")
    table.add_column("state", no_wrap=True)
    for name in ("delay", "first", "coverage", "missing"):
        table.add_column(name, justify="right", no_wrap=True)
    for upstream in overview.upstreams:
        state = upstream_state(upstream)
        table.add_row(
            upstream.host,
            Text(state, style="green" if state == "connected" else "yellow"),
            duration_text(upstream.delay_s),
            count_text(upstream.first_count),
            coverage_text(upstream.coverage),
            count_text(upstream.missing_count),
        )
    return table


def _groups(overview: Overview) -> Iterator[tuple[str, str]]:
    for name, members in (
        ("refused", overview.refused),
        ("parked", overview.parked),
        ("repos", overview.repos),
        ("last minute", overview.last_minute),
        ("languages", overview.last_minute_languages),
    ):
        if members:
            yield name, _members(members)


def _members(members: Mapping[str, int]) -> str:
    ordered = sorted(members.items(), key=lambda item: (-item[1], item[0]))
    texts = [f"{name} {count_text(count)}" for name, count in ordered[:SHOWN_MEMBERS_COUNT]]
    rest = sum(count for _, count in ordered[SHOWN_MEMBERS_COUNT:])
    if rest:
        texts.append(f"others {count_text(rest)}")
    return " · ".join(texts)


def _grid(rows: list[tuple[str, str]]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _table(*, expand: bool) -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=expand)
