"""`standpipe quarantine redrive`: repositories that what was refused is about are fetched."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import click

from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.syntax import Did, parse_did
from pipelines.cli import INTERRUPTED_EXIT_CODE
from pipelines.cli.options import DID, TIME, kafka_options
from pipelines.cli.quarantine_reading import (
    REASON,
    bounds,
    partitions,
    quarantined,
)
from pipelines.cli.resolving import identities_option, keys_of, resolver_options
from pipelines.config import KafkaConfig
from pipelines.crawl.redrive import MAX_ACCOUNTS_COUNT, Finding, Redrive, judge
from pipelines.crawl.redriving import Outcome, request_all
from pipelines.identity.keyring import KeyRing
from pipelines.identity.offline import OfflineKeys
from pipelines.identity.resolver import Resolver
from pipelines.inspection.messages import received_us
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.quarantine import Quarantined, Selection
from pipelines.process import stop_event

# Messages whose keys are looked up side by side; each has up to 5 MB.
BATCH_COUNT: Final = 50
# The longest wait for the keys of a batch.
MAX_WAIT_S: Final = 30.0


@click.command()
@click.option(
    "--reason",
    "reasons",
    type=REASON,
    multiple=True,
    help="Only this reason (signature.invalid) or area of reasons (mst). May be repeated.",
)
@click.option("--did", type=DID, help="Only messages about this account.")
@click.option("--since", "since_ms", type=TIME, help="Only what was received then or later.")
@click.option("--until", "until_ms", type=TIME, help="Only what was received before.")
@identities_option
@click.option("--dry-run", is_flag=True, help="Say what would be requested, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object on stdout.")
@resolver_options
@kafka_options
def redrive(
    *,
    reasons: tuple[str, ...],
    did: Did | None,
    since_ms: int | None,
    until_ms: int | None,
    identities: Path | None,
    dry_run: bool,
    as_json: bool,
    resolver: Resolver,
    kafka: KafkaConfig,
) -> int:
    """Prove refused messages again, and have the repositories fetched that lost by them.

    Each message is judged with the code and the keys of today. Where it would be accepted now, or
    is still refused but was signed by its account, the account's repository is requested once
    (topic `resyncs`), unless `repos` has it complete and as new. The messages themselves are never
    put into a topic of records: they are old, and records may have changed since.

    \b
    accepted   it would be taken now: a key or a rule was wrong then
    suspect    it is refused, and its account did sign the commit in it
    refused    it is refused, and nothing in it is known to be the account's: nothing is requested
    not known  nobody can tell the account's key now: try again later

    What is read is what was committed when the command began. If it is ended half-way, the same
    command asks for the rest, and for some twice, which has no other consequence.

    \b
    standpipe quarantine redrive --reason identity --since 2d --dry-run

    Exit code 0, 1 if a message is not known now, 130 if it was stopped.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    selection = Selection(frozenset(reasons), did, since_ms, until_ms)
    starts, ends = bounds(kafka, partitions(kafka, did, None), since_ms)
    messages = (item for item in quarantined(kafka, starts, ends) if selection.has(item[1]))
    found = Redrive()
    outcome = Outcome()
    with stop_event() as stop:
        with keys_of(identities, resolver, MAX_ACCOUNTS_COUNT) as keys:
            _judge_all(found, messages, keys, stop.is_set)
        if not stop.is_set():
            outcome = request_all(kafka, found, stop, is_dry=dry_run)
        was_stopped = stop.is_set()
    click.echo(_json(found, outcome) if as_json else _text(found, outcome, is_dry=dry_run))
    not_known_count = sum(counts[Finding.NOT_KNOWN] for counts in found.counts.values())
    if was_stopped:
        return INTERRUPTED_EXIT_CODE
    return 1 if not_known_count else 0


def _judge_all(
    found: Redrive,
    messages: Iterator[tuple[InputMessage, Quarantined]],
    keys: KeyRing | OfflineKeys,
    should_stop: Callable[[], bool],
) -> None:
    while not should_stop() and (batch := list(islice(messages, BATCH_COUNT))):
        if isinstance(keys, KeyRing):
            keys.prefetch(_dids(batch), MAX_WAIT_S)
        for message, quarantined_as in batch:
            judged = judge(message.value or b"", keys, received_us(message))
            found.add(quarantined_as.reason, judged)


def _dids(batch: Iterable[tuple[InputMessage, Quarantined]]) -> Iterator[Did]:
    for _, found in batch:
        with contextlib.suppress(ProtocolError):
            yield parse_did(found.account)


def _json(found: Redrive, outcome: Outcome) -> str:
    reasons = {
        reason: {str(finding): counts[finding] for finding in Finding}
        for reason, counts in sorted(found.counts.items())
    }
    summary = {
        "reasons": reasons,
        "accounts": len(found.dids),
        "requested": outcome.requested_count,
        "here": outcome.here_count,
    }
    return json.dumps(summary)


def _text(found: Redrive, outcome: Outcome, *, is_dry: bool) -> str:
    lines = []
    for reason, counts in sorted(found.counts.items()):
        findings = ", ".join(
            f"{counts[finding]:,} {finding.replace('_', ' ')}"
            for finding in Finding
            if counts[finding]
        )
        lines.append(f"{counts.total():,}\t{reason}\t{findings}")
    verb = "would be requested" if is_dry else "requested"
    lines.append(
        f"{len(found.dids):,} repositories: {outcome.requested_count:,} {verb}, "
        f"{outcome.here_count:,} complete and as new"
    )
    return "\n".join(lines)
