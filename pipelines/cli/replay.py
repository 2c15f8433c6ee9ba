"""`standpipe replay`: a window of history to a file or standard output."""

import re
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

import click

from pipelines.atproto.syntax import Did, Nsid
from pipelines.captures import encode_frame
from pipelines.cli.options import DID, NSID, TIME, kafka_options
from pipelines.cli.progress import moments
from pipelines.cli.replay_view import Moment, summary
from pipelines.config import KafkaConfig
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.topics import Format
from pipelines.process import stop_event
from pipelines.replay.epochs import EpochsError
from pipelines.replay.files import Encode, FileOutput, StreamOutput
from pipelines.replay.job import Tally
from pipelines.replay.lines import encode_line
from pipelines.replay.outputs import Output, OutputError
from pipelines.replay.planning import FRAMES, Plan, Request, check_request, plan_replay
from pipelines.replay.progress import Spec
from pipelines.replay.service import replay
from pipelines.replay.window import DEFAULT_LATE_MS, NO_END, Range, Window

_INTERRUPTED_EXIT_CODE = 130  # as shells have it
_match_row = re.compile(r"(\d{0,16})\.\.(\d{0,16})").fullmatch
_match_offsets = re.compile(r"(\d{1,6}):(\d{1,18})\.\.(\d{0,18})").fullmatch


class _Moment(NamedTuple):
    """A moment, as it was written and in milliseconds since 1970."""

    text: str
    ms: int


class _MomentType(click.ParamType):
    """A moment that can be compared with what was written another time."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> _Moment:
        return _Moment(str(value), TIME.convert(value, param, ctx))


class _RowType(click.ParamType):
    """A row of sequence numbers."""

    name = "A..B"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, int | None]:
        found = _match_row(str(value))
        if found is None or found[0] == "..":
            self.fail(f"{value!r} is not like 1000..2000, 1000.. or ..2000", param, ctx)
        first, last = (int(text) if text else None for text in found.groups())
        return first, last


class _OffsetsType(click.ParamType):
    """A part of a partition."""

    name = "P:A..B"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, Range]:
        found = _match_offsets(str(value))
        if found is None:
            self.fail(f"{value!r} is not like 3:1000..2000 or 3:1000..", param, ctx)
        return int(found[1]), Range(int(found[2]), int(found[3]) + 1 if found[3] else NO_END)


@click.command()
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@click.option(
    "--since",
    type=_MomentType(),
    help="Messages of this Kafka timestamp and later: 2026-01-31T12:00:00Z, or 90m, 2h, 3d ago.",
)
@click.option("--until", type=_MomentType(), help="Messages of before this timestamp.")
@click.option(
    "--late",
    type=click.IntRange(min=0),
    default=DEFAULT_LATE_MS // 1000,
    show_default=True,
    metavar="SECONDS",
    help="How long after --until a message from before it may have been written; what was written "
    "later is not seen. 43200 is enough for what waited for an account's identity.",
)
@click.option(
    "--host",
    metavar="HOST",
    help="Of the topic frames: those that this upstream brought, in its own order.",
)
@click.option("--seq", type=_RowType(), help="With --host: sequence numbers, both ends included.")
@click.option(
    "--offsets",
    type=_OffsetsType(),
    multiple=True,
    help="Only this partition, and of it these offsets, both included; repeat it for others.",
)
@click.option(
    "--did",
    "dids",
    type=DID,
    multiple=True,
    help="Only this account; repeat it for others. Other partitions are not read.",
)
@click.option(
    "--collection",
    "collections",
    type=NSID,
    multiple=True,
    help="Of records.* or latest.*: only this collection; repeat it for others.",
)
@click.option("--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option(
    "--to-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Into FILE.jsonl, FILE.jsonl.zst or FILE.frames. Default: JSON lines on stdout.",
)
@kafka_options
def command(
    *,
    topics: tuple[str, ...],
    since: _Moment | None,
    until: _Moment | None,
    late: int,
    host: str | None,
    seq: tuple[int | None, int | None] | None,
    offsets: tuple[tuple[int, Range], ...],
    dids: tuple[Did, ...],
    collections: tuple[Nsid, ...],
    follow: bool,
    to_file: Path | None,
    kafka: KafkaConfig,
) -> int:
    """Replay a window of what topics hold: frames, events, records.*, or any other.

    What a window has is noted at the start and read once, committed messages only; live stages
    are not disturbed, as no consumer group is joined and no position moved. Messages come in the
    order of their timestamps, those of one account in their own order; with --host, frames come
    in the order in which the upstream sent them, whatever partition they are in.

    \b
    standpipe replay records.app.bsky.feed.post --since 2h | jq -c .value
    standpipe replay frames --did did:plc:… --to-file account.frames
    standpipe replay frames --host relay.example --seq 1000..2000 --to-file row.frames
    standpipe replay 'records.*' --collection app.bsky.feed.like --to-file likes.jsonl.zst

    \b
    FILE.frames   the frames byte for byte, each with its length (4 bytes, big-endian) before
                  it, as `standpipe capture` writes and `standpipe verify` reads them
    FILE.jsonl    one JSON object a message: topic, partition, offset, timestamp_ms, key,
                  headers, and value, or value_base64 where the value is no JSON
    FILE.jsonl.zst   the same, compressed

    A file grows as FILE.part and is named once it is whole. If it was interrupted, the same
    command goes on where it was. The same window gives the same file each time, as long as the
    topics keep it.

    Exit code 0 if it is whole, 1 if it cannot be read or written, 2 on wrong usage, 130 if
    interrupted.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    first_seq, last_seq = (None, None) if seq is None else seq
    window = Window(
        since_ms=since and since.ms,
        until_ms=until and until.ms,
        late_ms=late * 1000,
        offsets=_by_partition(offsets),
    )
    request = Request(
        topics, window, dids, collections, host, first_seq, last_seq, is_following=follow
    )
    check_request(request)
    if follow and to_file is not None:
        raise click.UsageError("a file is named once it is whole, and --follow has no end.")
    if to_file is not None:
        _check_name(to_file, topics)
    plan = plan_replay(kafka, request)
    if plan.oldest_seq is not None:
        click.echo(
            f"the oldest frame of {host} still there has number {plan.oldest_seq}", err=True
        )
    spec: Spec = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "topics": list(plan.topics),
        "since": since and since.text,
        "until": until and until.text,
        "late": late,
        "host": host,
        "seq": None if seq is None else list(seq),
        "offsets": [[number, *found] for number, found in sorted(window.offsets.items())],
        "dids": sorted(dids),
        "collections": sorted(collections),
    }
    return _run(kafka, plan, _output(plan, to_file), spec, is_following=follow)


def _run(kafka: KafkaConfig, plan: Plan, output: Output, spec: Spec, *, is_following: bool) -> int:
    begun_s = time.monotonic()
    try:
        with stop_event() as stop, moments("replay", "replaying") as show:

            def tell(tally: Tally) -> None:
                show(Moment(tally, time.monotonic() - begun_s))

            outcome = replay(kafka, plan, output, spec, stop.is_set, tell)
    except (OutputError, EpochsError) as error:
        raise click.ClickException(str(error)) from None
    finally:
        output.close()
    click.echo(summary(outcome, time.monotonic() - begun_s, is_following=is_following), err=True)
    return 0 if outcome.is_whole or is_following else _INTERRUPTED_EXIT_CODE


def _by_partition(offsets: tuple[tuple[int, Range], ...]) -> dict[int, Range]:
    found = dict(offsets)
    if len(found) < len(offsets):
        raise click.UsageError("--offsets names a partition twice: one row of each.")
    return found


def _check_name(path: Path, topics: tuple[str, ...]) -> None:
    if path.suffix == ".frames":
        if topics != (FRAMES,):
            raise click.UsageError(
                f"{path.name} would hold frames alone: name it .jsonl or .jsonl.zst."
            )
    elif path.suffixes[-1:] != [".jsonl"] and path.suffixes[-2:] != [".jsonl", ".zst"]:
        _refuse_name(path)
    if not path.parent.is_dir():
        raise click.UsageError(f"there is no folder {path.parent}: create it first.")


def _refuse_name(path: Path) -> NoReturn:
    raise click.UsageError(
        f"{path.name} does not say what it is to hold: end it in .frames, .jsonl or .jsonl.zst."
    )


def _output(plan: Plan, path: Path | None) -> Output:
    if path is None:
        return StreamOutput(sys.stdout.buffer, partial(_line_of, plan))
    encode: Encode = _frame_of if path.suffix == ".frames" else partial(_line_of, plan)
    return FileOutput(path, encode, is_compressed=path.suffix == ".zst")


def _frame_of(message: InputMessage) -> bytes:
    return encode_frame(message.value or b"")


def _line_of(plan: Plan, message: InputMessage) -> bytes:
    spec = plan.topics[message.topic].spec
    return encode_line(message, is_json=spec.format is Format.JSON)
