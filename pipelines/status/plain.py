"""A look at a pipeline for programs: plain lines, one line, or JSON. Pure."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pipelines.status.overview import Overview
from pipelines.status.text import (
    behind_text,
    count_text,
    coverage_text,
    duration_text,
    lag_text,
    rate_text,
)
from pipelines.status.upstreams import upstream_state


def summary(overview: Overview) -> str:
    """Returns a look in one line."""
    parts = [
        f"frames {count_text(overview.frames_count)} ({rate_text(overview.frames_per_s)}/s)",
        f"proven {count_text(overview.proven_count)}",
        f"refused {count_text(sum(overview.refused.values()))}",
        f"records {count_text(overview.records_count)}",
    ]
    parts += [
        f"{stage.name} {behind_text(stage.lag)} behind ({lag_text(stage.lag)})"
        for stage in overview.stages
        if stage.lag is not None
    ]
    return "  ".join(parts)


def lines(overview: Overview) -> Iterator[str]:
    """Yields a look line by line: each begins with what it is about and stands for itself."""
    yield summary(overview)
    for stage in overview.stages:
        yield (
            f"stage {stage.name}  in {count_text(stage.taken_count)} "
            f"({rate_text(stage.taken_per_s)}/s)  out {count_text(stage.given_count)} "
            f"({rate_text(stage.given_per_s)}/s)  behind {behind_text(stage.lag)}  "
            f"lag {lag_text(stage.lag)}"
        )
        for process in stage.processes:
            line = (
                f"process {process.name}  {process.condition} {duration_text(process.seconds)}"
                f"  {process.detail}"
            )
            yield line.rstrip()
    for upstream in overview.upstreams:
        yield (
            f"upstream {upstream.host}  {upstream_state(upstream)}  seq {upstream.seq or '-'}  "
            f"delay {duration_text(upstream.delay_s)}  first {count_text(upstream.first_count)}  "
            f"coverage {coverage_text(upstream.coverage)}  "
            f"missing {count_text(upstream.missing_count)}"
        )
    for name, members in (
        ("refused", overview.refused),
        ("parked", overview.parked),
        ("repos", overview.repos),
        ("last_minute", overview.last_minute),
        ("last_minute_languages", overview.last_minute_languages),
    ):
        for member, count in sorted(members.items()):
            yield f"{name} {member} {count}"
    for problem in overview.problems:
        yield f"problem {problem}"


def as_json(overview: Overview) -> dict[str, Any]:
    """Returns a look as a JSON object."""
    return {**asdict(overview), "is_well": not overview.problems}
