"""`standpipe doctor`: what is wrong with a deployment, and what to do."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console

from pipelines.cli.options import kafka_options
from pipelines.cli.resolving import plc_url_option
from pipelines.config import KafkaConfig, state_directory
from pipelines.doctor.checks import examine
from pipelines.doctor.findings import Finding, Result, worst
from pipelines.doctor.observe import observe

# A transaction of ours may be open for ten seconds, and the broker looks for ones that are
# overdue every ten more by default.
_PATIENCE_S = 25.0
_MAX_DETAILS_COUNT = 10
_MARKS = {
    Result.OK: "ok",
    Result.WARNING: "warning",
    Result.WRONG: "WRONG",
    Result.SKIPPED: "skipped",
}


@click.command()
@click.option(
    "--state-dir",
    "folders",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    metavar="DIR",
    help="Where processes on this machine have their stores; may be repeated. "
    "Default: $STANDPIPE_HOME (.standpipe).",
)
@plc_url_option
@click.option(
    "--patience",
    "patience_s",
    type=click.FloatRange(min=1),
    default=_PATIENCE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long something suspicious may stand still before it counts as stuck.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@kafka_options
def command(
    *,
    folders: tuple[Path, ...],
    plc_url: str,
    patience_s: float,
    as_json: bool,
    kafka: KafkaConfig,
) -> int:
    """Look at a deployment and say what is wrong and what to do.

    Checks the brokers, the topics against schemas/, open transactions, consumer groups, the
    clocks of the processes, the disks of this machine and the directory of identities. Changes
    nothing. It takes a few seconds; up to --patience more where something stands still.

    \b
    ok       as it should be
    warning  works now, and may not for long
    WRONG    loses time or data now
    skipped  could not be looked at

    deploy/RUNBOOK.md has a section for each check. Exit code 0 if nothing is wrong (there may be
    warnings), 1 if something is, 2 on wrong usage.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    with Console(stderr=True).status("") as status:
        seen = observe(
            kafka,
            plc_url=plc_url,
            folders=folders or (state_directory(),),
            patience_s=patience_s,
            announce=status.update,
        )
    findings = examine(seen)
    result = worst(findings)
    if as_json:
        click.echo(json.dumps(_as_json(findings, result)))
    else:
        for line in _lines(findings):
            click.echo(line)
    return 1 if result is Result.WRONG else 0


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    width = max(len(finding.check) for finding in findings)
    for check, judgement in ((finding.check, finding.judgement) for finding in findings):
        yield f"{_MARKS[judgement.result]:8} {check:{width}}  {judgement.found}"
        details = judgement.details
        for detail in details[:_MAX_DETAILS_COUNT]:
            yield f"{'':9}  {detail}"
        if len(details) > _MAX_DETAILS_COUNT:
            yield f"{'':9}  … and {len(details) - _MAX_DETAILS_COUNT} more (--json has all)"
        if judgement.remedy:
            yield f"{'':9}→ {judgement.remedy}"


def _as_json(findings: Sequence[Finding], result: Result) -> dict[str, object]:
    return {
        "result": result,
        "findings": [
            {"check": finding.check, **dataclasses.asdict(finding.judgement)}
            for finding in findings
        ],
    }
