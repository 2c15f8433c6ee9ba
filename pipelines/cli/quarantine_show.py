"""`standpipe quarantine show`: one quarantined message, and what is thought of it now."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import click

from pipelines.atproto.errors import Reason
from pipelines.atproto.meanings import MEANINGS
from pipelines.cli.inspect_source import read_source
from pipelines.cli.inspect_view import TREE_LINES_COUNT, show_report
from pipelines.cli.options import kafka_options
from pipelines.cli.resolving import identities_option, keys_of, resolver_options
from pipelines.config import KafkaConfig
from pipelines.errors import IdentityUnavailableError
from pipelines.identity.resolver import Resolver
from pipelines.inspection.frames import inspect_frame
from pipelines.inspection.messages import message_section, received_us
from pipelines.inspection.report import Section, section
from pipelines.kafka.quarantine import Quarantined, parse_quarantined
from pipelines.report import FrameReport, Outcome, report_frame
from pipelines.verdict import NotedKeys

_KEYS_COUNT = 100  # there is one account
_match_place = re.compile(r"[0-9]{1,10}:[0-9]{1,19}").fullmatch


@click.command()
@click.argument("place", metavar="PARTITION:OFFSET")
@identities_option
@click.option("--raw", is_flag=True, help="Only the message itself, byte for byte, on stdout.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@resolver_options
@kafka_options
def show(
    place: str,
    *,
    identities: Path | None,
    raw: bool,
    as_json: bool,
    resolver: Resolver,
    kafka: KafkaConfig,
) -> int:
    """Show a quarantined message, and verify it again as this version would today.

    PARTITION:OFFSET is where `standpipe quarantine list` found it. Keys are looked up anew, in the
    order in which a worker tries them; "from the future" is judged by the time of arrival, as
    then. Below are all checks, as by `standpipe inspect frame`.

    \b
    standpipe quarantine show 3:17
    standpipe quarantine show 3:17 --raw | standpipe inspect frame -

    Exit code 0 if it was shown, 1 if there is no such message or nobody can tell the key now.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    if _match_place(place) is None:
        raise click.BadParameter(f"{place!r} is not like 3:17", param_hint="PARTITION:OFFSET")
    source = read_source(f"{kafka.topic('quarantine')}:{place}", kafka)
    message = source.message
    assert message is not None, "a file has the name of a message"
    if raw:
        sys.stdout.buffer.write(source.raw)
        sys.stdout.buffer.flush()
        return 0
    try:
        found = parse_quarantined(message)
    except ValueError as error:
        raise click.ClickException(
            f"standpipe did not write what is at {place}: {error}"
        ) from None
    received = received_us(message)
    verdict: FrameReport | IdentityUnavailableError
    with keys_of(identities, resolver, _KEYS_COUNT) as keys:
        noted = NotedKeys(keys)
        try:
            verdict = report_frame(source.raw, noted, received)
        except IdentityUnavailableError as error:
            verdict = error
    report = inspect_frame(
        source.raw,
        signing_key=noted.last,
        received_us=received,
        has_records=False,
        max_tree_lines=TREE_LINES_COUNT,
    )
    sections = (
        _refusal(found),
        _verdict_now(found, verdict),
        message_section(message),
        *report.sections,
    )
    show_report(replace(report, sections=sections), as_json=as_json)
    return 1 if isinstance(verdict, IdentityUnavailableError) else 0


def meaning_of(reason: str) -> str:
    """Returns what a reason means, for a person."""
    return MEANINGS[Reason(reason)] if reason in set(Reason) else "another version knows"


def _refusal(found: Quarantined) -> Section:
    return section(
        "refused",
        reason=found.reason,
        meaning=meaning_of(found.reason),
        detail=found.detail,
        stage=found.stage,
        version=found.version,
        attempts=found.attempts_count,
        source="the upstream's socket" if found.origin is None else str(found.origin),
    )


def _verdict_now(found: Quarantined, verdict: FrameReport | IdentityUnavailableError) -> Section:
    if isinstance(verdict, IdentityUnavailableError):
        return section("verified again", verdict="not known now", detail=str(verdict))
    is_same = verdict.verdict is Outcome.REFUSED and verdict.reason == found.reason
    return section(
        "verified again",
        verdict=verdict.verdict,
        reason=verdict.reason,
        detail=verdict.detail,
        same_as_then="yes" if is_same else "no",
    )
