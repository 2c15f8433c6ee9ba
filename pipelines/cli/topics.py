"""`standpipe topics plan | apply`: the pipeline's topics on a cluster."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import click

from pipelines.cli.options import kafka_options
from pipelines.config import KafkaConfig
from pipelines.kafka import admin
from pipelines.kafka.admission import difference

# Of a topic to be created; --json has all settings.
_SHOWN_CONFIGS = ("cleanup.policy", "retention.ms", "max.message.bytes")


def _topic_options(function: Any) -> Any:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
        click.option(
            "--replication-factor",
            type=click.IntRange(1),
            metavar="N",
            help="Replicas of new topics. Default: 3, or as many as there are brokers.",
        ),
        click.option(
            "--partitions",
            type=click.IntRange(1, admin.MAX_PARTITIONS_COUNT),
            metavar="N",
            help="Partitions of every topic that is partitioned by DID; fixed at creation. "
            f"Default: what frames has, or {admin.DEFAULT_PARTITIONS_COUNT}.",
        ),
    ):
        function = option(function)
    return kafka_options(function)


@click.group()
def command() -> None:
    """Create and check the pipeline's topics, as schemas/ describes them.

    --admit names the collections whose records have topics of their own. To change them, stop
    explode, compact and analytics, `apply` with the new ones, and start them with the same.

    Nothing is ever deleted, and no topic that schemas/ does not name is touched.
    """


@command.command()
@_topic_options
def plan(
    kafka: KafkaConfig, partitions: int | None, replication_factor: int | None, *, as_json: bool
) -> int:
    """Show what `apply` would do. Exit 1 if it would refuse to."""
    found = admin.plan(kafka, partitions, replication_factor=replication_factor)
    return _report(found, as_json=as_json, if_changes="Run `standpipe topics apply` to do this.")


@command.command()
@_topic_options
def apply(
    kafka: KafkaConfig, partitions: int | None, replication_factor: int | None, *, as_json: bool
) -> int:
    """Create missing topics and set differing settings; if any is refused, do nothing, exit 1."""
    found = admin.plan(kafka, partitions, replication_factor=replication_factor)
    if not found.refused:
        admin.apply(found)
    return _report(found, as_json=as_json, if_changes="Done.")


def _report(found: admin.Plan, *, as_json: bool, if_changes: str) -> int:
    """Prints a plan and returns the exit code."""
    if as_json:
        click.echo(_as_json(found))
    else:
        for line in _lines(found):
            click.echo(line)
        if found.refused:
            click.echo(f"Nothing is changed: {admin.PARTITIONS_REMEDY}.")
        else:
            click.echo(if_changes if found.has_changes else "Nothing to do.")
    return 1 if found.refused else 0


def _lines(found: admin.Plan) -> Iterator[str]:
    kafka = found.kafka
    yield (
        f"Cluster {kafka.bootstrap_servers}, brokers: {found.brokers_count}; prefix "
        f"{kafka.topic_prefix}, partitions: {found.partitions}, replicas of new topics: "
        f"{found.replication_factor}"
    )
    for topic in found.create:
        shown = " ".join(f"{name}={topic.configs[name]}" for name in _SHOWN_CONFIGS)
        yield f"create   {topic.name}  partitions={topic.partitions} {shown} …"
    for change in found.alter:
        have = "unknown to the broker" if change.have is None else change.have
        yield f"change   {change.topic}  {change.name}: {have} → {change.want}"
    for refusal in found.refused:
        yield f"refused  {refusal}"
    for name in found.foreign:
        yield f"foreign  {name}  not in schemas/, left alone"
    altered = {change.topic for change in found.alter}
    if found.admit is not None:
        yield _admitted(found)
    yield (
        f"to create: {len(found.create)}, to change: {len(altered)}, refused: "
        f"{len(found.refused)}, foreign: {len(found.foreign)}, as they should be: "
        f"{len(found.equal)}"
    )


def _admitted(found: admin.Plan) -> str:
    assert found.admit is not None
    current = found.admissions.current
    if current is None:
        return f"admit    collections with topics of their own: {len(found.admit)}, from the start"
    changes = (
        difference(current.collections, found.admit) or "as before: withdraw what is announced"
    )
    return (
        f"admit    {changes}  from the frames on that come after `apply`; explode, compact and "
        "analytics have to be stopped"
    )


def _as_json(found: admin.Plan) -> str:
    create = [
        {"topic": topic.name, "partitions": topic.partitions, "configs": dict(topic.configs)}
        for topic in found.create
    ]
    return json.dumps(
        {
            "bootstrap_servers": found.kafka.bootstrap_servers,
            "topic_prefix": found.kafka.topic_prefix,
            "brokers_count": found.brokers_count,
            "partitions": found.partitions,
            "replication_factor": found.replication_factor,
            "create": create,
            "alter": [dataclasses.asdict(change) for change in found.alter],
            "refused": [dataclasses.asdict(difference) for difference in found.refused],
            "foreign": found.foreign,
            "equal": found.equal,
            "admit": found.admit,
        },
        ensure_ascii=False,
    )
