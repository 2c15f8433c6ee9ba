"""Reports of `standpipe inspect` as text and as JSON."""

from collections.abc import Iterator
from typing import Any, assert_never

import click
import orjson

from pipelines.cli.printing import printable
from pipelines.inspection.report import Check, Failed, NotReached, Passed, RecordView, Report

# Of the picture of a tree, unless somebody asks for more: some screens full.
TREE_LINES_COUNT = 100


def show_report(report: Report, *, as_json: bool) -> int:
    """Prints a report; returns the exit code: 0 if no check failed, else 1."""
    if as_json:
        click.echo(report_as_json(report))
    else:
        for line in report_as_text(report):
            click.echo(line)
    return 0 if report.is_good else 1


def report_as_text(report: Report) -> Iterator[str]:
    """Yields the lines of a report, of which a terminal obeys none."""
    return map(printable, _lines(report))


def report_as_json(report: Report) -> bytes:
    """Returns a report as one JSON object."""
    return orjson.dumps(_values(report))


def _lines(report: Report) -> Iterator[str]:
    yield report.title
    for section in report.sections:
        yield ""
        yield section.title
        width = max((len(fact.name) for fact in section.facts), default=0)
        for name, value in section.facts:
            yield f"  {name:{width}}  {'-' if value is None else value}"
    if report.tree:
        yield ""
        yield "tree"
        yield from (f"  {line}" for line in report.tree)
    if report.records:
        yield ""
        yield "records"
        for record in report.records:
            yield from _record_lines(record)
    yield ""
    yield "checks"
    yield from (f"  {_check_line(check)}" for check in report.checks)


def _record_lines(record: RecordView) -> Iterator[str]:
    yield f"  {record.path or ''}  {record.cid}".rstrip()
    if record.json is None:
        yield f"    no JSON form: {record.why_no_json}"
    else:
        yield f"    {record.json.decode()}"


def _check_line(check: Check) -> str:
    match check:
        case Passed(name):
            return f"ok           {name}"
        case Failed(name, reason, detail, path):
            about = "" if path is None else f" ({path})"
            return f"FAILED       {name}: {reason}: {detail}{about}"
        case NotReached(name, why):
            return f"not reached  {name} ({why})"
        case _:
            assert_never(check)


def _values(report: Report) -> dict[str, Any]:
    return {
        "title": report.title,
        "is_good": report.is_good,
        "sections": {section.title: dict(section.facts) for section in report.sections},
        "checks": [_check_values(check) for check in report.checks],
        "tree": report.tree,
        "records": [
            {
                "path": record.path,
                "cid": record.cid,
                "record": None if record.json is None else orjson.Fragment(record.json),
                "record_error": record.why_no_json,
            }
            for record in report.records
        ],
    }


def _check_values(check: Check) -> dict[str, Any]:
    match check:
        case Passed(name):
            return {"name": name, "result": "ok"}
        case Failed(name, reason, detail, path):
            return {
                "name": name,
                "result": "failed",
                "reason": reason,
                "detail": detail,
                "path": path,
            }
        case NotReached(name, why):
            return {"name": name, "result": "not reached", "why": why}
        case _:
            assert_never(check)
