"""`standpipe repo`: what the topics say of one repository, and the repository itself as a CAR."""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click
import orjson
from rich.console import Console
from rich.table import Table

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.syntax import Did
from pipelines.cli.options import DID, kafka_options
from pipelines.cli.progress import progress
from pipelines.compact.audit import Finding, read_partition
from pipelines.compact.export import ExportError, ExportStore
from pipelines.compact.service import output_topics
from pipelines.compact.state import RepoState, encode_repo
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.admitting import deployed
from pipelines.kafka.partition import partition_for


@click.command()
@click.argument("did", type=DID)
@click.option("--records", is_flag=True, help="List every record: path and CID.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option(
    "--export",
    "export_format",
    type=click.Choice(["car"]),
    help="Write the repository itself, as a server would export it.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where an export goes: there whole or not at all. Default: stdout.",
)
@kafka_options
def command(
    did: Did,
    *,
    records: bool,
    as_json: bool,
    export_format: str | None,
    out: Path | None,
    kafka: KafkaConfig,
) -> int:
    """Show what repos and latest.* say of one repository, or export it.

    Reads the repository's partition from its beginning. Exit code 1 if nothing is known of it, or
    if it cannot be exported.

    An export is a CAR as com.atproto.sync.getRepo serves it, in streamable order, at the commit
    whose records latest.* holds: signed commit, nodes and records. It is compared with the signed
    root before it is written, and takes the repository's size on disk.

    \b
    Examples:  standpipe repo did:plc:ewvi7nxzyoun6zhxrhs64oiz
               standpipe repo did:plc:ewvi7nxzyoun6zhxrhs64oiz --export car --out repo.car
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    if export_format is not None:
        if records or as_json:
            raise click.UsageError("--export goes with neither --records nor --json.")
        return _export(kafka, did, out)
    if out is not None:
        raise click.UsageError("--out needs --export car.")
    topics = output_topics(kafka, *deployed(kafka))
    partition = _partition_of(kafka, did)
    with read_partition(kafka, topics, partition, did) as reading:
        state = reading.repo(did)
        found = {path: encode_cid(cid) for path, cid in reading.records(did)}
    if state is None:
        return _say_unknown(did, topics.repos)
    if as_json:
        shown: dict[str, Any] = orjson.loads(encode_repo(state))
        shown["records_by_collection"] = _by_collection(found)
        if records:
            shown["records"] = found
        click.echo(json.dumps(shown))
        return 0
    console = Console(soft_wrap=True)
    console.print(_state_table(state, partition))
    table = Table("records", "collection", title="latest records", title_justify="left")
    for collection, count in sorted(_by_collection(found).items()):
        table.add_row(str(count), collection)
    console.print(table)
    if records:
        for path, cid in found.items():
            click.echo(f"{path}\t{cid}")
    return 0


def _export(kafka: KafkaConfig, did: Did, out: Path | None) -> int:
    if out is None and sys.stdout.isatty():
        raise click.UsageError("a CAR is binary: name a file with --out, or redirect stdout.")
    topics = output_topics(kafka, *deployed(kafka))
    partition = _partition_of(kafka, did)
    with (
        tempfile.TemporaryDirectory(prefix="standpipe-export-") as folder,
        closing(ExportStore(Path(folder))) as store,
        read_partition(kafka, topics, partition, did, store.take) as reading,
    ):
        if reading.repo(did) is None:
            return _say_unknown(did, topics.repos)
        [audit] = reading.audit([did])
        state = reading.repo(did)
        assert state is not None
        if audit.finding is not Finding.MATCHES or state.head is None:
            problem = audit.problem or "no commit of it is held, so there is nothing to export"
            raise click.ClickException(f"{did}: {audit.finding}: {problem}")
        try:
            with progress("exporting", audit.records_count) as advance:
                pieces = store.pieces(did, state.head, reading.records(did), lambda: advance(1))
                _write(pieces, out)
        except ExportError as error:
            raise click.ClickException(str(error)) from None
    seen = "" if state.sync == "synchronized" else f", {state.sync} since"
    click.echo(f"{did}: {audit.records_count} records at revision {audit.rev}{seen}", err=True)
    return 0


def _write(pieces: Iterable[bytes], out: Path | None) -> None:
    if out is None:
        sys.stdout.buffer.writelines(pieces)
        sys.stdout.buffer.flush()
    else:
        try:
            with _whole_file(out) as file:
                file.writelines(pieces)
        except OSError as error:
            raise click.ClickException(f"cannot write {out}: {error.strerror}") from None


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes its name when the block ends without an error."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _partition_of(kafka: KafkaConfig, did: Did) -> int:
    return partition_for(did, check_partitions(kafka, ["repos"])["repos"])


def _say_unknown(did: Did, topic: str) -> int:
    click.echo(f"{did} is not in {topic}: no event of it was ever seen", err=True)
    return 1


def _by_collection(records: dict[str, str]) -> Counter[str]:
    return Counter(path.partition("/")[0] for path in records)


def _state_table(state: RepoState, partition: int) -> Table:
    table = Table(show_header=False, title=state.did, title_justify="left", title_style="bold")
    shown = orjson.loads(encode_repo(state))
    for name in ("did", "commit_block"):
        del shown[name]
    for name, value in shown.items():
        if value is not None:
            table.add_row(name, str(value))
    table.add_row("partition", str(partition))
    return table
