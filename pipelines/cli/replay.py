"""`standpipe replay`: a window of history to a file, a directory, a topic or standard output."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import click

from pipelines.atproto.syntax import Did, Nsid
from pipelines.cli.metrics_option import ADDRESS
from pipelines.cli.options import DID, NSID, kafka_options
from pipelines.cli.progress import moments
from pipelines.cli.replay_options import GIVEN_TIME, OFFSETS, ROW, GivenTime
from pipelines.cli.replay_places import Places, check_places, output_of
from pipelines.cli.replay_serving import check_frames_alone, serve_frames, serve_jetstream
from pipelines.cli.replay_view import Moment, findings, summary, unproven_line
from pipelines.cli.resolving import identities_option, keys_of, resolver_options
from pipelines.config import KafkaConfig
from pipelines.identity.memory import DEFAULT_KEYS_COUNT
from pipelines.identity.resolver import Resolver
from pipelines.metrics.endpoint import Address
from pipelines.process import stop_event
from pipelines.replay.epochs import EpochsError
from pipelines.replay.job import Tally
from pipelines.replay.outputs import Output, OutputError
from pipelines.replay.pace import Pace
from pipelines.replay.planning import FRAMES, Plan, Request, check_request, plan_replay
from pipelines.replay.progress import Spec
from pipelines.replay.reverify import Reverified, Unproven
from pipelines.replay.service import replay
from pipelines.replay.window import DEFAULT_LATE_MS, Range, Window

_INTERRUPTED_EXIT_CODE = 130  # as shells have it


@click.command()
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@click.option(
    "--since",
    type=GIVEN_TIME,
    help="Messages of this Kafka timestamp and later: 2026-01-31T12:00:00Z, or 90m, 2h, 3d ago.",
)
@click.option("--until", type=GIVEN_TIME, help="Messages of before this timestamp.")
@click.option(
    "--late",
    type=click.IntRange(min=0),
    default=DEFAULT_LATE_MS // 1000,
    show_default=True,
    metavar="SECONDS",
    help="How long after --until a message from before it may have been written; what was "
    "written later is not seen. 43200 is enough for what waited for an account's identity.",
)
@click.option(
    "--host",
    metavar="HOST",
    help="Of the topic frames: those that this upstream brought, in its own order.",
)
@click.option("--seq", type=ROW, help="With --host: sequence numbers, both ends included.")
@click.option(
    "--offsets",
    type=OFFSETS,
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
@click.option(
    "--to-parquet",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Into a directory of Parquet files, by collection and date; needs standpipe[parquet].",
)
@click.option(
    "--to-topic",
    metavar="TOPIC",
    help="Into this topic of the same cluster (its whole name), each message exactly once.",
)
@click.option(
    "--again", is_flag=True, help="With --to-topic: write once more what was written before."
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="N times as fast as it came, 1 for the original pace. Default: as fast as it goes.",
)
@click.option(
    "--reverify",
    is_flag=True,
    help="Of the topic frames: prove each again with the key of its time. What has no proof is a "
    "JSON line on stdout; the frames themselves go there no more.",
)
@click.option(
    "--serve-jetstream",
    "jetstream",
    type=ADDRESS,
    metavar="[HOST:]PORT",
    help="Of the topic events: serve it, and what comes, as the JSON websocket of Jetstream "
    "(/subscribe); the host is 127.0.0.1 unless it is named. Each subscriber chooses for itself.",
)
@click.option(
    "--serve",
    type=ADDRESS,
    metavar="[HOST:]PORT",
    help="Of the topic frames: serve one upstream's as the event stream that it was, "
    "com.atproto.sync.subscribeRepos; the host is 127.0.0.1 unless it is named.",
)
@identities_option
@resolver_options
@kafka_options
def command(
    *,
    topics: tuple[str, ...],
    since: GivenTime | None,
    until: GivenTime | None,
    late: int,
    host: str | None,
    seq: tuple[int | None, int | None] | None,
    offsets: tuple[tuple[int, Range], ...],
    dids: tuple[Did, ...],
    collections: tuple[Nsid, ...],
    follow: bool,
    to_file: Path | None,
    to_parquet: Path | None,
    to_topic: str | None,
    again: bool,
    speed: float | None,
    reverify: bool,
    jetstream: Address | None,
    serve: Address | None,
    identities: Path | None,
    resolver: Resolver,
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
    standpipe replay 'records.*' --to-parquet records
    standpipe replay frames --to-topic second.frames
    standpipe replay frames --since 1d --reverify
    standpipe replay events --serve-jetstream 6008
    standpipe replay frames --host relay.example --serve 6008

    \b
    FILE.frames   the frames byte for byte, each with its length (4 bytes, big-endian) before
                  it, as `standpipe capture` writes and `standpipe verify` reads them
    FILE.jsonl    one JSON object a message: topic, partition, offset, timestamp_ms, key,
                  headers, and value, or value_base64 where the value is no JSON
    FILE.jsonl.zst   the same, compressed
    DIR           collection=…/date=…/part-….parquet, zstd; the columns are the fields of the
                  value. The same command later adds what has come since, each message once

    A file grows as FILE.part and is named once it is whole. If it was interrupted, the same
    command goes on where it was. The same window gives the same file each time, as long as the
    topics keep it.

    A topic gets keys, values, headers and timestamps as they are, so it has to keep messages for
    longer than the window is old; how far it goes is in the same transactions, so a run that was
    killed goes on with nothing missing or twice. Topics of this deployment have their own writers:
    name one of another prefix.

    --serve-jetstream goes on until Ctrl-C, for subscribers with the parameters wantedCollections,
    wantedDids, cursor, maxMessageSizeBytes and requireHello, and the message options_update. A
    cursor is any time_us, as far back as Kafka keeps the topic; who comes again with the last one
    misses nothing, and gets the last ten seconds before it and the transaction it was in again.
    Anyone who can reach the address may read it: it asks for no password.

    --serve goes on until Ctrl-C, with what is written meanwhile unless --until or --seq ends it.
    Each subscriber begins where its cursor says: with none at the present, with 0 at the oldest
    frame there is, with N behind that number of the upstream. One that is slow, or away, goes on
    from Kafka; its last number is all that it has to know. Of an upstream that began its numbers
    anew, N is looked for among the latest first. Anyone who reaches the address may read.

    Exit code 0 if it is whole, 1 if it cannot be read or written, or if --reverify finds a frame
    without a proof, 2 on wrong usage, 130 if interrupted.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    if jetstream is not None:
        return serve_jetstream(kafka, topics, jetstream)
    if serve is not None:
        check_frames_alone(topics)
    window = Window(
        since_ms=since and since.ms,
        until_ms=until and until.ms,
        late_ms=late * 1000,
        offsets=_by_partition(offsets),
    )
    request = Request(
        topics, window, dids, collections, host, *(seq or (None, None)), is_following=follow
    )
    check_request(request)
    if serve is not None:
        return serve_frames(kafka, request, serve)
    places = Places(to_file, to_parquet, to_topic, is_again=again, is_only_checked=reverify)
    check_places(places, topics, is_following=follow, is_paced=speed is not None)
    if reverify and topics != (FRAMES,):
        raise click.UsageError("--reverify is for the topic frames: nothing else has signatures.")
    plan = plan_replay(kafka, request)
    if plan.oldest_seq is not None:
        click.echo(
            f"the oldest frame of {host} still there has number {plan.oldest_seq}", err=True
        )
    spec: Spec = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "topic_prefix": kafka.topic_prefix,
        "topics": list(topics),
        "since": since and since.text,
        "until": until and until.text,
        "late": late,
        "host": host,
        "seq": None if seq is None else list(seq),
        "offsets": [[number, *found] for number, found in sorted(window.offsets.items())],
        "dids": sorted(dids),
        "collections": sorted(collections),
    }
    pace = None if speed is None else Pace(speed)
    with stop_event() as stop, keys_of(identities, resolver, DEFAULT_KEYS_COUNT) as keys:
        output: Output = output_of(places, kafka, plan, spec, collections, stop.is_set)
        checked = Reverified(output, keys, _echo_unproven) if reverify else None
        with contextlib.closing(checked or output) as into:
            exit_code = _run(kafka, plan, into, spec, stop.is_set, pace, is_following=follow)
    if checked is not None:
        click.echo(findings(checked), err=True)
        return exit_code or (0 if checked.is_good else 1)
    return exit_code


def _run(
    kafka: KafkaConfig,
    plan: Plan,
    output: Output,
    spec: Spec,
    should_stop: Callable[[], bool],
    pace: Pace | None,
    *,
    is_following: bool,
) -> int:
    begun_s = time.monotonic()
    try:
        with moments("replay", "replaying") as show:

            def tell(tally: Tally) -> None:
                show(Moment(tally, time.monotonic() - begun_s))

            outcome = replay(kafka, plan, output, spec, should_stop, tell, pace)
    except (OutputError, EpochsError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(summary(outcome, time.monotonic() - begun_s, is_following=is_following), err=True)
    return 0 if outcome.is_whole or is_following else _INTERRUPTED_EXIT_CODE


def _by_partition(offsets: tuple[tuple[int, Range], ...]) -> dict[int, Range]:
    found = dict(offsets)
    if len(found) < len(offsets):
        raise click.UsageError("--offsets names a partition twice: one row of each.")
    return found


def _echo_unproven(unproven: Unproven) -> None:
    click.echo(unproven_line(unproven))
