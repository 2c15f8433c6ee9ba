"""`standpipe verify`: a verdict for every frame of a capture, without Kafka."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import orjson

from pipelines.captures import read_frames
from pipelines.cli.progress import progress
from pipelines.identity.offline import OfflineKeys
from pipelines.report import FrameReport, Outcome, report_frames

_COLUMNS = ("n", "kind", "seq", "did", "rev", "verdict", "reason", "chain")


@click.command()
@click.argument("frames", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--identities",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The signers' DID documents and PLC audit logs, one JSON object a line.",
)
@click.option("--jsonl", is_flag=True, help="One JSON object a line instead of columns.")
@click.option("--quiet", "-q", is_flag=True, help="Only lines of refused frames or broken chains.")
def command(frames: Path, identities: Path, *, jsonl: bool, quiet: bool) -> int:
    """Prove every frame of a capture.

    FRAMES is a file as `standpipe capture` writes it: a 4-byte big-endian length before each
    websocket message. A line says n, kind, seq, did, rev, verdict, reason and chain.

    \b
    verdict  verified  every claim is proven: hashes, signature, tree, and that undoing
                       the operations gives the previous root
             refused   proven bad; the reason says how
             skipped   nothing in it is signed (identity, account, info, unknown types)
    chain    ok, broken or first: how it follows the repository's previous frame;
             it never changes the verdict

    Exit code 0 if no frame is refused, 1 if one is, 2 on wrong usage.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    keys = OfflineKeys.load(identities)
    counts: Counter[str] = Counter()
    for report in report_frames(_with_progress(frames), keys):
        counts[report.verdict] += 1
        if report.chain is not None:
            counts[f"chain {report.chain}"] += 1
        if quiet and report.verdict is not Outcome.REFUSED and report.chain != "broken":
            continue
        sys.stdout.buffer.write(_json_line(report) if jsonl else _text_line(report))
    sys.stdout.buffer.flush()
    summary = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    click.echo(f"{sum(counts[o] for o in Outcome)} frames: {summary or 'none'}", err=True)
    return 1 if counts[Outcome.REFUSED] else 0


def _with_progress(path: Path) -> Iterator[bytes]:
    with progress("proving", path.stat().st_size) as advance:
        for frame in read_frames(path):
            yield frame
            advance(len(frame) + 4)


def _json_line(report: FrameReport) -> bytes:
    fields: dict[str, Any] = asdict(report)
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _text_line(report: FrameReport) -> bytes:
    values = (getattr(report, name) for name in _COLUMNS)
    return ("\t".join("-" if value is None else str(value) for value in values) + "\n").encode()
