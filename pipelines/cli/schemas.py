"""`standpipe schemas register`: the contracts of topics, for a schema registry."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace

import click

from pipelines.atproto.syntax import Nsid
from pipelines.cli.options import topic_options
from pipelines.config import KafkaConfig
from pipelines.contracts.schema_registry import REFUSAL_REMEDY, SchemaRegistry
from pipelines.contracts.subjects import Finding, State, SubjectVersion, subject_versions
from pipelines.kafka.topics import registry


@click.group()
def command() -> None:
    """Give others the contracts of the topics, which schemas/ describes."""


@command.command()
@click.option(
    "--registry",
    "url",
    required=True,
    metavar="URL",
    help="The schema registry, http(s)://host[:port][/path].",
)
@click.option(
    "--credentials",
    metavar="USER:PASSWORD",
    help="For a registry that asks who comes. Better set in the environment.",
)
@click.option("--dry-run", is_flag=True, help="Look up and check everything, register nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@topic_options
def register(
    url: str,
    credentials: str | None,
    topic_prefix: str,
    admitted: tuple[Nsid, ...],
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Register the JSON Schema of each topic's values in a Confluent-compatible registry.

    The subject of a topic is its name and `-value`. Every version is looked up first, and checked
    against the subject's compatibility level if it is new; if the registry refuses one, nothing is
    registered, and the exit code is 1. What is there stays, so run it as often as you like.

    Messages are plain JSON: they do not begin with the number of a schema, as those of Confluent's
    serializers do. The registry tells people and tools what is in a topic.
    """
    kafka = KafkaConfig(topic_prefix=topic_prefix)
    known = registry().admitting(admitted) if admitted else registry()
    found, is_refused = asyncio.run(
        _register(
            SchemaRegistry(url, credentials),
            list(subject_versions(known, kafka)),
            is_dry_run=dry_run,
        )
    )
    if as_json:
        click.echo(_as_json(url, found))
    else:
        for finding in found:
            click.echo(_line(finding))
        counts = {state: sum(1 for finding in found if finding.state is state) for state in State}
        missing = "to register" if dry_run or is_refused else "registered"
        click.echo(
            f"{missing}: {counts[State.MISSING]}, there: {counts[State.PRESENT]}, refused: "
            f"{counts[State.REFUSED]}"
        )
        if is_refused:
            click.echo(f"Nothing is registered: {REFUSAL_REMEDY}.")
    return 1 if is_refused else 0


async def _register(
    target: SchemaRegistry, wanted: Sequence[SubjectVersion], *, is_dry_run: bool
) -> tuple[list[Finding], bool]:
    """Returns what was found, with the numbers of what was registered, and if any is refused."""
    async with target:
        found = await target.find(wanted)
        is_refused = any(finding.state is State.REFUSED for finding in found)
        if not is_dry_run and not is_refused:
            found = [
                replace(finding, schema_id=await target.register(finding.wanted))
                if finding.state is State.MISSING
                else finding
                for finding in found
            ]
    return found, is_refused


def _line(finding: Finding) -> str:
    wanted = finding.wanted
    line = f"{finding.state:<8} {wanted.subject}  version {wanted.version}"
    if finding.schema_id is not None:
        line += f"  id {finding.schema_id}"
    return f"{line}  {finding.detail}" if finding.detail else line


def _as_json(url: str, found: Sequence[Finding]) -> str:
    return json.dumps(
        {
            "registry": url,
            "subjects": [
                {
                    "subject": finding.wanted.subject,
                    "version": finding.wanted.version,
                    "state": finding.state,
                    "id": finding.schema_id,
                    "detail": finding.detail,
                }
                for finding in found
            ],
        },
        ensure_ascii=False,
    )
