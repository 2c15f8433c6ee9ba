"""`standpipe account`: what the operator says of an account instead of upstream."""

import json
import threading
import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pipelines.atproto.syntax import Did
from pipelines.cli.options import DID, kafka_options
from pipelines.compact.overrides import (
    MAX_REASON_LENGTH,
    Override,
    OverrideStatus,
    override_message,
    parse_override,
)
from pipelines.compact.state import RepoState, parse_repo
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.reading import read_to_end
from pipelines.kafka.transaction import TransactionalProducer

# One writer at a time: of two, the second ends the first.
_WRITER = ("account", "cli")

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be written, and write nothing."
)


@click.group()
def command() -> None:
    """Say of an account what counts here, whatever upstream says: the topic overrides.

    \b
    standpipe account override did:plc:… takendown --reason "Order 4711"
    standpipe account show did:plc:…
    standpipe account lift did:plc:…
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines


@command.command()
@click.argument("did", type=DID)
@click.argument("status", type=click.Choice([str(status) for status in OverrideStatus]))
@click.option("--reason", required=True, metavar="TEXT", help="Why, for people who read repos.")
@dry_run_option
@kafka_options
def override(did: Did, status: str, *, reason: str, dry_run: bool, kafka: KafkaConfig) -> None:
    """Let a status count for an account instead of upstream's.

    \b
    takendown, suspended, deactivated   its records are hidden, or purged where compact runs with
                                        --on-inactive purge; its commits are not taken
    deleted                             its records are purged at once; nobody has to confirm it
    active                              it is shown and followed, whatever upstream says

    It counts as soon as compact has read it, and until it is lifted. A second one takes the place
    of the first. What upstream says meanwhile is kept beside it in repos.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    if not 1 <= len(reason.strip()) <= len(reason) <= MAX_REASON_LENGTH:
        raise click.BadParameter(
            f"say in 1 to {MAX_REASON_LENGTH:,} characters why", param_hint="--reason"
        )
    decided = Override(OverrideStatus(status), reason, time.time_ns() // 1_000)
    _write(kafka, did, decided, is_dry=dry_run)


@command.command()
@click.argument("did", type=DID)
@dry_run_option
@kafka_options
def lift(did: Did, *, dry_run: bool, kafka: KafkaConfig) -> int:
    """Take an override back: upstream's present word counts again.

    If the account is shown again by that, its repository is asked for, since nothing of it was
    taken meanwhile. Exit code 1 if there is no override.
    """
    partition = _partition_of(kafka, did)
    if _override_of(kafka, did, partition) is None:
        click.echo(f"{did} has no override", err=True)
        return 1
    _write(kafka, did, None, is_dry=dry_run)
    return 0


@command.command()
@click.argument("did", type=DID)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@kafka_options
def show(did: Did, *, as_json: bool, kafka: KafkaConfig) -> int:
    """Show which status counts for an account, who says so, and what upstream says.

    Reads the account's partition of repos and overrides from its beginning. Exit code 1 if nothing
    is known of it.
    """
    partition = _partition_of(kafka, did)
    state = _state_of(kafka, did, partition)
    written = _override_of(kafka, did, partition)
    if state is None and written is None:
        topics = f"{kafka.topic('repos')} or {kafka.topic('overrides')}"
        click.echo(f"{did} is not in {topics}: nothing was ever said of it", err=True)
        return 1
    shown = _fields(state, written)
    if as_json:
        click.echo(json.dumps({"did": did, **shown}))
        return 0
    table = Table(show_header=False, title=did, title_justify="left", title_style="bold")
    for name, value in shown.items():
        if value is not None:
            table.add_row(name, str(value))
    Console(soft_wrap=True).print(table)
    return 0


def _fields(state: RepoState | None, written: Override | None) -> dict[str, Any]:
    held = None if state is None else state.override
    account = None if state is None else state.account
    return {
        "active": None if state is None else state.active,
        "status": None if state is None else state.status,
        "upstream_active": None if state is None else state.upstream_active,
        "upstream_status": None if state is None else state.upstream_status,
        "account_host": None if account is None else account.host,
        "account_time": None if account is None else account.time,
        "override_status": None if written is None else str(written.status),
        "override_reason": None if written is None else written.reason,
        "override_us": None if written is None else written.decided_us,
        # Compact may not have read it yet.
        "in_force": held == written,
    }


def _write(kafka: KafkaConfig, did: Did, override: Override | None, *, is_dry: bool) -> None:
    partition = _partition_of(kafka, did)
    message = override_message(
        did, override, partition, kafka.topic("overrides"), time.time_ns() // 1_000_000
    )
    if not is_dry:
        _produce(kafka, message)
    verb = "would be" if is_dry else "is"
    what = "lifted: upstream's word counts" if override is None else str(override.status)
    click.echo(f"{did}\t{verb} {what}")


def _produce(kafka: KafkaConfig, message: OutputMessage) -> None:
    producer = TransactionalProducer(
        kafka, kafka.transactional_id(*_WRITER), threading.Event().is_set
    )
    producer.start()
    producer.run(lambda transaction: transaction.produce(message))


def _partition_of(kafka: KafkaConfig, did: Did) -> int:
    return partition_for(did, check_partitions(kafka, ["repos", "overrides"])["overrides"])


def _state_of(kafka: KafkaConfig, did: Did, partition: int) -> RepoState | None:
    value = _newest(kafka, "repos", did, partition)
    return None if value is None else parse_repo(value)


def _override_of(kafka: KafkaConfig, did: Did, partition: int) -> Override | None:
    value = _newest(kafka, "overrides", did, partition)
    return None if value is None else parse_override(value)


def _newest(kafka: KafkaConfig, topic: str, did: Did, partition: int) -> bytes | None:
    key, value = did.encode(), None
    for message in read_to_end(kafka, [kafka.topic(topic)], [partition]):
        if message.key == key:
            value = message.value
    return value
