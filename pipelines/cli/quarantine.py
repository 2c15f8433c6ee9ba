"""`standpipe quarantine`: what was refused, and why."""

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import click
import orjson

from pipelines import logs
from pipelines.atproto.errors import Reason
from pipelines.atproto.syntax import Did
from pipelines.cli.options import DID, TIME, kafka_options
from pipelines.cli.printing import printable
from pipelines.cli.progress import progress
from pipelines.cli.quarantine_show import meaning_of, show
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.messages import InputMessage, Position
from pipelines.kafka.partition import partition_for
from pipelines.kafka.quarantine import Quarantined, Selection, parse_quarantined
from pipelines.kafka.reading import log_ends, log_starts, read_between

_AREAS = frozenset(reason.partition(".")[0] for reason in Reason)

_log = logs.get_logger("quarantine")


class _ReasonType(click.ParamType):
    """A reason, or an area of reasons."""

    name = "reason"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        text = str(value)
        if text not in _AREAS and text not in set(Reason):
            area = text.partition(".")[0]
            known = [reason for reason in Reason if reason.partition(".")[0] == area] or _AREAS
            self.fail(
                f"there is no reason {text!r}; there are {', '.join(sorted(known))}", param, ctx
            )
        return text


@click.group()
def command() -> None:
    """Look at what was refused: the topic quarantine.

    Each message is as it came, with the reason in its headers. To put messages in again, and have
    their repositories repaired, is not possible yet.
    """


command.add_command(show)


@command.command(name="list")
@click.option(
    "--reason",
    "reasons",
    type=_ReasonType(),
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
    numbers = _partitions(kafka, did, partition)
    starts, ends = _bounds(kafka, numbers, since_ms)
    # With offsets there is one partition at most.
    starts = {where: max(start, from_offset or 0) for where, start in starts.items()}
    if to_offset is not None:
        ends = {where: min(end, to_offset) for where, end in ends.items()}
    counts: Counter[str] = Counter()
    for found in _quarantined(kafka, starts, ends):
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


def _partitions(kafka: KafkaConfig, did: Did | None, partition: int | None) -> list[int]:
    """Returns the partitions that can hold what is asked for."""
    count = check_partitions(kafka, ["quarantine"])["quarantine"]
    if partition is not None and partition >= count:
        raise click.BadParameter(
            f"{kafka.topic('quarantine')} has {count} partitions, counted from 0",
            param_hint="--partition",
        )
    numbers = set(range(count)) if partition is None else {partition}
    if did is not None:
        numbers &= {partition_for(did, count)}
    return sorted(numbers)


def _bounds(
    kafka: KafkaConfig, numbers: Sequence[int], since_ms: int | None
) -> tuple[dict[Position, int], dict[Position, int]]:
    """Returns where to start reading partitions, and where what is readable ends."""
    wanted = [(kafka.topic("quarantine"), number) for number in numbers]
    ends = log_ends(kafka, wanted, is_readable=True)
    starts = {
        where: ends[where] if start is None else start
        for where, start in log_starts(kafka, wanted, since_ms).items()
    }
    return starts, ends


def _quarantined(
    kafka: KafkaConfig, starts: Mapping[Position, int], ends: Mapping[Position, int]
) -> Iterator[Quarantined]:
    for message in _with_progress(kafka, starts, ends):
        try:
            yield parse_quarantined(message)
        except ValueError as error:
            _log.warning(
                "not_a_quarantined_message",
                partition=message.partition,
                offset=message.offset,
                detail=str(error),
            )


def _with_progress(
    kafka: KafkaConfig, starts: Mapping[Position, int], ends: Mapping[Position, int]
) -> Iterator[InputMessage]:
    next_offsets = dict(starts)
    total = sum(max(0, ends[where] - start) for where, start in starts.items())
    with progress("reading", total) as advance:
        for message in read_between(kafka, starts, ends):
            yield message
            where = (message.topic, message.partition)
            advance(message.offset + 1 - next_offsets[where])
            next_offsets[where] = message.offset + 1


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
