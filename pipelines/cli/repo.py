"""`standpipe repo`: what the topics say of one repository."""

import json
from collections import Counter
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.syntax import Did
from pipelines.cli.options import DID, kafka_options
from pipelines.compact.audit import read_partition
from pipelines.compact.service import output_topics
from pipelines.compact.state import RepoState, encode_repo
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.partition import partition_for
from pipelines.kafka.topics import registry


@click.command()
@click.argument("did", type=DID)
@click.option("--records", is_flag=True, help="List every record: path and CID.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@kafka_options
def command(did: Did, *, records: bool, as_json: bool, kafka: KafkaConfig) -> int:
    """Show what repos and latest.* say of one repository.

    Reads the repository's partition from its beginning. Exit code 1 if nothing is known of it.

    \b
    Example:  standpipe repo did:plc:ewvi7nxzyoun6zhxrhs64oiz
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    topics = output_topics(kafka, registry())
    partition = partition_for(did, check_partitions(kafka, ["repos"])["repos"])
    with read_partition(kafka, topics, partition, did) as reading:
        state = reading.repo(did)
        found = {path: encode_cid(cid) for path, cid in reading.records(did)}
    if state is None:
        click.echo(f"{did} is not in {topics.repos}: no event of it was ever seen", err=True)
        return 1
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
