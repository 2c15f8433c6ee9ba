"""`standpipe inspect`: one thing, decoded, with the result of every check."""

import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import click

from pipelines.atproto.keys import Curve, VerifyingKey
from pipelines.captures import CaptureError, read_frames
from pipelines.cli.inspect_did import did
from pipelines.cli.inspect_source import KEY, Source, read_source, source_argument
from pipelines.cli.inspect_view import TREE_LINES_COUNT, show_report
from pipelines.cli.options import kafka_options
from pipelines.config import KafkaConfig
from pipelines.inspection.cars import inspect_car
from pipelines.inspection.frames import inspect_frame
from pipelines.inspection.messages import message_section, received_us
from pipelines.inspection.report import Report
from pipelines.inspection.values import inspect_cid, inspect_key, inspect_record, inspect_tid


@click.group()
def command() -> None:
    """Decode one thing and show every check with its result.

    \b
    A check is   ok            it holds
                 FAILED        with a reason that never changes its name
                 not reached   something before it failed, or is not known

    SOURCE is a file, - for standard input, or a message in Kafka as topic:partition:offset
    (frames:0:12 is short for atproto.frames:0:12). Exit code 0 if no check failed, 1 if one did,
    2 on wrong usage.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines


command.add_command(did)

_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
_key_option = click.option(
    "--key",
    "signing_key",
    type=KEY,
    help="The account's signing key, to check the signature with. `standpipe inspect did` has it.",
)
_records_option = click.option(
    "--records", "has_records", is_flag=True, help="Show the records too."
)
_tree_option = click.option(
    "--tree-lines",
    "max_tree_lines",
    type=click.IntRange(min=0),
    default=TREE_LINES_COUNT,
    show_default=True,
    help="Lines of the picture of the tree, at most.",
)


@command.command()
@click.argument("where", metavar="SOURCE")
@click.option(
    "--n",
    type=click.IntRange(min=0),
    help="SOURCE is a capture: take its frame N, counted from 0.",
)
@_key_option
@_records_option
@_tree_option
@_json_option
@kafka_options
def frame(
    where: str,
    n: int | None,
    signing_key: VerifyingKey | None,
    kafka: KafkaConfig,
    *,
    has_records: bool,
    max_tree_lines: int,
    as_json: bool,
) -> int:
    """Inspect a frame of the event stream: fields, commit, operations, tree.

    A frame is one websocket message of com.atproto.sync.subscribeRepos. Where it holds a commit,
    the picture shows the part of the repository's tree that was sent: its layers, its keys, and
    as stubs the subtrees that are known only by their CIDs.

    \b
    standpipe inspect frame frame.bin
    standpipe inspect frame capture.frames --n 12 --key did:key:zQ3sh… --records
    standpipe inspect frame frames:0:12
    standpipe inspect frame quarantine:1:7 --json | jq .checks
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    source = read_source(where, kafka) if n is None else Source(_nth_frame(where, n), None)
    report = inspect_frame(
        source.raw,
        signing_key=signing_key,
        received_us=received_us(source.message),
        has_records=has_records,
        max_tree_lines=max_tree_lines,
    )
    return show_report(_with_message(report, source), as_json=as_json)


@command.command()
@source_argument
@_key_option
@click.option(
    "--partial",
    "is_partial",
    is_flag=True,
    help="Nodes and records may be missing: the CAR is what a commit brought.",
)
@_records_option
@_tree_option
@_json_option
def car(
    source: Source,
    signing_key: VerifyingKey | None,
    *,
    is_partial: bool,
    has_records: bool,
    max_tree_lines: int,
    as_json: bool,
) -> int:
    """Inspect a CAR file: blocks, commit, and the whole tree.

    The answer of com.atproto.sync.getRepo is one. Tells what is in it, whether anything is
    missing or beside the point, and whether it could be proven while it arrives.

    \b
    standpipe inspect car repo.car --key did:key:zQ3sh…
    curl …/xrpc/com.atproto.sync.getRepo?did=did:plc:… | standpipe inspect car - --tree-lines 20
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    report = inspect_car(
        source.raw,
        signing_key=signing_key,
        is_partial=is_partial,
        has_records=has_records,
        max_tree_lines=max_tree_lines,
    )
    return show_report(_with_message(report, source), as_json=as_json)


@command.command()
@source_argument
@_json_option
def record(source: Source, *, as_json: bool) -> int:
    """Inspect a record: its CID, its JSON, and whether it is one.

    \b
    SOURCE holds   a block of DAG-CBOR
                   or the record as JSON, with links as {"$link": …}
                   or JSON with uri and cid beside the record: a message of a record topic, or the
                   answer of com.atproto.repo.getRecord; the CID is then compared

    \b
    standpipe inspect record post.json
    standpipe inspect record records.app.bsky.feed.post:0:3
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    return show_report(_with_message(inspect_record(source.raw), source), as_json=as_json)


@command.command()
@click.argument("text", metavar="TID")
@_json_option
def tid(text: str, *, as_json: bool) -> int:
    """Inspect a TID: the time and the clock in it.

    TIDs are the revisions of repositories and the keys of most records.

    \b
    standpipe inspect tid 3lmxjza3nva27
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    return show_report(inspect_tid(text, time.time_ns() // 1_000), as_json=as_json)


@command.command()
@click.argument("text", metavar="CID")
@click.option("--block", metavar="SOURCE", help="What the CID is said to be of.")
@_json_option
@kafka_options
def cid(text: str, block: str | None, kafka: KafkaConfig, *, as_json: bool) -> int:
    """Inspect a CID: its kind and its hash.

    \b
    standpipe inspect cid bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm
    standpipe inspect cid bafyrei… --block block.cbor
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    raw = None if block is None else read_source(block, kafka).raw
    return show_report(inspect_cid(text, raw), as_json=as_json)


@command.command()
@click.argument("text", metavar="KEY")
@click.option(
    "--legacy",
    "legacy_curve",
    type=click.Choice(["k256", "p256"]),
    help="KEY is the publicKeyMultibase of one of the 2019 types, which name the curve.",
)
@_json_option
def key(text: str, legacy_curve: Curve | None, *, as_json: bool) -> int:
    """Inspect a public key: did:key:z… or the z… of a Multikey.

    \b
    standpipe inspect key did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    return show_report(inspect_key(text, legacy_curve), as_json=as_json)


def _with_message(report: Report, source: Source) -> Report:
    if source.message is None:
        return report
    return replace(report, sections=(message_section(source.message), *report.sections))


def _nth_frame(where: str, n: int) -> bytes:
    try:
        found = next(islice(read_frames(Path(where)), n, None), None)
    except CaptureError as error:
        raise click.BadParameter(str(error), param_hint="SOURCE") from None
    if found is None:
        raise click.BadParameter(f"{where} has no frame {n}", param_hint="--n")
    return found
