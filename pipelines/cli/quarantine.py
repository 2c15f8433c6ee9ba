"""`standpipe quarantine`: what was refused, and why."""

import dataclasses
import json
import sys
from collections import Counter
from datetime import UTC, datetime

import click
import orjson

from pipelines.atproto.syntax import Did
from pipelines.cli.options import DID, TIME, kafka_options
from pipelines.cli.printing import printable
from pipelines.cli.quarantine_reading import REASON, bounds, partitions, quarantined
from pipelines.cli.quarantine_redrive import redrive
from pipelines.cli.quarantine_show import meaning_of, show
from pipelines.config import KafkaConfig
from pipelines.kafka.quarantine import Quarantined, Selection


@click.group()
def command() -> None:
    """Look at what was refused, and have it mended: the topic quarantine.

    Each message is as it came, with the reason in its headers.
    """


command.add_command(show)
command.add_command(redrive)


@command.command(name="list")
@click.option(
    "--reason",
    "reasons",
    type=REASON,
    multiple=True,
    help="Only this reason (signature.invalid) or area of reasons (mst). May be repeated.",
)
@click.option("--did", type=DID, help="Only messages about this account.")
@click.option("--since", "since_ms", type=TIME, help="Only what was received then or later.")
@click.option("--until", "until_ms", type=TIME, help="Only what was received before.")
@click.option("--partition", type=click.IntRange(min=0), help="Only this partition.")
@click.option(
    "--from-offset", type=click.IntRange(min=0), help="Only from here on in the --partition."
)
@click.option(
    "--to-offset", type=click.IntRange(min=0), help="Only before this in the --partition."
)
@click.option("--summary", is_flag=True, help="Only how many there are for each reason.")
@click.option("--jsonl", is_flag=True, help="One JSON object a line instead of columns.")
@kafka_options
def list_messages(
    *,
    reasons: tuple[str, ...],
    did: Did | None,
    since_ms: int | None,
    until_ms: int | None,
    partition: int | None,
    from_offset: int | None,
    to_offset: int | None,
    summary: bool,
    jsonl: bool,
    kafka: KafkaConfig,
) -> int:
    """List what was refused, and how much for which reason.

    A line says partition:offset, time of arrival, reason, stage, account (or the upstream's host,
    where no account could be read), where it was read from, and why in a sentence. Lines are in
    order within each partition. The counts by reason come last, on stderr.

    A time is like 2026-01-31T12:00:00Z, or like 90m, 2h or 3d for so long ago. What is read is
    what was committed when the command began.

    \b
    standpipe quarantine list --since 2h
    standpipe quarantine list --reason signature.invalid --reason mst --jsonl
    standpipe quarantine list --summary

    Exit code 0, also if there is nothing.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    if partition is None and (from_offset is not None or to_offset is not None):
        raise click.UsageError("an offset is one of a partition: name it with --partition.")
    selection = Selection(frozenset(reasons), did, since_ms, until_ms)
    starts, ends = bounds(kafka, partitions(kafka, did, partition), since_ms)
    # With offsets there is one partition at most.
    starts = {where: max(start, from_offset or 0) for where, start in starts.items()}
    if to_offset is not None:
        ends = {where: min(end, to_offset) for where, end in ends.items()}
    counts: Counter[str] = Counter()
    for _, found in quarantined(kafka, starts, ends):
        if selection.has(found):
            counts[found.reason] += 1
            if not summary:
                sys.stdout.buffer.write(_json_line(found) if jsonl else _text_line(found))
    if summary:
        for reason, count in counts.most_common():
            sys.stdout.buffer.write(_summary_line(reason, count, jsonl=jsonl))
    sys.stdout.buffer.flush()
    listed = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    click.echo(f"{counts.total()} messages: {listed or 'none'}", err=True)
    return 0


def _text_line(found: Quarantined) -> bytes:
    values = (
        f"{found.partition}:{found.offset}",
        _time_text(found.received_ms),
        found.reason,
        found.stage,
        found.account,
        found.origin or "socket",
        printable(found.detail),
    )
    return ("\t".join(map(str, values)) + "\n").encode()


def _json_line(found: Quarantined) -> bytes:
    fields = dataclasses.asdict(found)
    fields["origin"] = None if found.origin is None else found.origin._asdict()
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _summary_line(reason: str, count: int, *, jsonl: bool) -> bytes:
    meaning = meaning_of(reason)
    if jsonl:
        return (json.dumps({"reason": reason, "count": count, "meaning": meaning}) + "\n").encode()
    return f"{count}\t{reason}\t{meaning}\n".encode()


def _time_text(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
