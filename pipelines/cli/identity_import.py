"""`standpipe identity import` and `follow`: the PLC directory's export → identities."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from pipelines.cli.metrics_option import metrics_option
from pipelines.cli.options import kafka_options
from pipelines.cli.progress import moments
from pipelines.cli.resolving import plc_url_option
from pipelines.config import KafkaConfig, state_directory
from pipelines.mirror import service
from pipelines.mirror.directory import DirectoryExport
from pipelines.mirror.dump import DumpFile
from pipelines.mirror.intake import Tally
from pipelines.mirror.source import Source
from pipelines.process import stop_event

# Ten pages of a thousand operations: more than one core validates.
DEFAULT_PAGES_PER_S: Final = 10.0


def _mirror_options(function: Callable[..., Any]) -> Callable[..., Any]:
    @plc_url_option
    @click.option(
        "--plc-rate",
        type=click.FloatRange(min=0, min_open=True),
        default=DEFAULT_PAGES_PER_S,
        show_default=True,
        metavar="R",
        help="Pages a second that are asked for at most; a page has up to 1,000 operations.",
    )
    @click.option(
        "--state-dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=None,
        metavar="DIR",
        help="Where the position is, and what later operations are judged by. Default: "
        "identity/<topic prefix> in $STANDPIPE_HOME (.standpipe). Without it, an import starts "
        "from the beginning.",
    )
    @metrics_option
    @kafka_options
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@click.command(name="import")
@click.argument(
    "file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--json", "is_json", is_flag=True, help="The summary as one JSON object on stdout.")
@_mirror_options
def import_command(
    file: Path | None,
    *,
    plc_url: str,
    plc_rate: float,
    state_dir: Path | None,
    is_json: bool,
    kafka: KafkaConfig,
) -> None:
    """Fill identities from a whole directory, so that no worker has to ask for each account.

    Reads the directory's /export, or FILE: a dump of it, JSON lines, plain or gzip, by sequence
    number or by time. Every operation is verified against those before it of the same account; one
    that is not valid is counted, said, and passed over.

    \b
    standpipe identity import
    standpipe identity import export.jsonl.gz

    What a dump says counts as known since the time of the file: workers ask again after a day, as
    for everything that they know.

    It can be stopped with Ctrl-C and goes on from there the next time; a dump can be continued
    from the directory. Ends when there is no more; `standpipe identity follow` stays.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    directory = DirectoryExport(plc_url, per_s=plc_rate, follows=False)
    source = directory if file is None else DumpFile(file)
    tally = _run(kafka, source, state_dir, directory.url)
    summary = {
        "read": tally.read_count,
        "accepted": tally.accepted_count,
        "voided": tally.voided_count,
        "repeated": tally.repeated_count,
        "skipped": tally.skipped_count,
        "refused": dict(tally.refused),
    }
    click.echo(json.dumps(summary) if is_json else _sentence(tally))


@click.command(name="follow")
@_mirror_options
def follow_command(
    *, plc_url: str, plc_rate: float, state_dir: Path | None, kafka: KafkaConfig
) -> None:
    """Keep identities current: like import, and then wait for what comes.

    Asks the directory every two seconds. Where nothing was imported before, it begins with that.
    """
    directory = DirectoryExport(plc_url, per_s=plc_rate, follows=True)
    click.echo(_sentence(_run(kafka, directory, state_dir, directory.url)))


def _run(kafka: KafkaConfig, source: Source, state_dir: Path | None, url: str) -> Tally:
    folder = state_dir or state_directory() / "identity" / kafka.topic_prefix
    with stop_event() as stop, moments(service.STAGE, "importing") as on_progress:
        return service.run(
            kafka, source, folder, directory=url, stop=stop, on_progress=on_progress
        )


def _sentence(tally: Tally) -> str:
    refused = ", ".join(f"{count:,} {reason}" for reason, count in sorted(tally.refused.items()))
    return (
        f"{tally.read_count:,} operations read: {tally.accepted_count:,} valid, "
        f"{tally.voided_count:,} made void by those, {tally.repeated_count:,} known before, "
        f"{tally.skipped_count:,} of unknown type, {tally.refused.total():,} refused"
        + (f" ({refused})" if refused else "")
    )
