"""`standpipe audit` of repositories: chosen, audited, compared, told, and asked for again."""

import contextlib
import dataclasses
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, nullcontext
from typing import Final, NamedTuple

import click
from rich.console import Console

from pipelines.atproto.syntax import Did, Tid
from pipelines.compact.audit import Audit, Finding, read_partition
from pipelines.compact.servers import Servers, compare_all
from pipelines.compact.service import output_topics
from pipelines.compact.standing import Comparison, Standing
from pipelines.config import KafkaConfig
from pipelines.crawl.writing import RequestWriter
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.admitting import deployed
from pipelines.kafka.partition import partition_for
from pipelines.repair.requests import Cause, Request

# In one transaction, which takes some 50 ms.
REQUESTS_COUNT: Final = 100
# Of the writer of requests among those of crawls.
SLOT: Final = "audit"

_GOOD_FINDINGS: Final = frozenset({Finding.MATCHES, Finding.EMPTY})


class Choice(NamedTuple):
    """Which repositories are audited.

    Attributes:
        did: this one; None for all, or for a sample.
        sample_count: how many, chosen at random; None for all.
        seed: what chooses them.
    """

    did: Did | None
    sample_count: int | None
    seed: int


class Audited(NamedTuple):
    """A repository that was audited.

    Attributes:
        audit: its records beside its signed root.
        comparison: its head beside its server's; None if nobody was asked.
    """

    audit: Audit
    comparison: Comparison | None

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong, as far as can be known."""
        return self.audit.finding in _GOOD_FINDINGS and not self._is_apart

    @property
    def needs_repair(self) -> bool:
        """Whether it has to be fetched again; one that changes may be under repair already."""
        return self.audit.finding is Finding.MISMATCH or self._is_apart

    @property
    def _is_apart(self) -> bool:
        return self.comparison is not None and self.comparison.is_apart

    def request(self, now_us: int) -> Request:
        """Returns the request that has it fetched again.

        Args:
            now_us: the time, microseconds since the epoch.
        """
        revs = [self.audit.rev, self.comparison and self.comparison.rev]
        # An older revision of the server is no reason to ask for more than it has.
        min_rev = max((Tid(rev) for rev in revs if rev is not None), default=None)
        if self.comparison is not None and self.comparison.standing is Standing.DRIFT:
            min_rev = None
        return Request(self.audit.did, Cause.AUDIT, None, min_rev, None, now_us)


def audit_repos(
    kafka: KafkaConfig,
    choice: Choice,
    servers: Servers | None,
    *,
    as_json: bool,
    is_quiet: bool,
    is_repairing: bool,
) -> int:
    """Audits repositories and says what it found; returns the exit code."""
    partitions = check_partitions(kafka, ["repos"])["repos"]
    counts: Counter[str] = Counter()
    repos_count = records_count = wrong_count = requests_count = 0
    with (
        servers or nullcontext(),
        _requests(kafka) if is_repairing else nullcontext() as requests,
    ):
        for audited in _audited(kafka, choice, partitions, servers):
            repos_count += 1
            records_count += audited.audit.records_count
            counts[audited.audit.finding] += 1
            if audited.comparison is not None:
                counts[audited.comparison.standing] += 1
            wrong_count += not audited.is_good
            if requests is not None and audited.needs_repair:
                requests_count += 1
                requests.add(audited.request(time.time_ns() // 1_000))
            if not (is_quiet and audited.is_good):
                click.echo(_json_line(audited) if as_json else _text_line(audited))
    if choice.did is not None and not repos_count:
        topic = kafka.topic("repos")
        click.echo(f"{choice.did} is not in {topic}: no event of it was ever seen", err=True)
        return 1
    names: Iterable[str] = (*Finding, *Standing)
    summary = ", ".join(f"{counts[name]} {name}" for name in names if counts[name])
    click.echo(
        f"{repos_count} repositories, {records_count} records: {summary or 'none'}", err=True
    )
    if choice.sample_count is not None:
        click.echo(f"chosen with --seed {choice.seed}", err=True)
    if is_repairing:
        click.echo(f"{requests_count} are asked for again, in {kafka.topic('resyncs')}", err=True)
    return 1 if wrong_count else 0


def _audited(
    kafka: KafkaConfig, choice: Choice, partitions: int, servers: Servers | None
) -> Iterator[Audited]:
    topics = output_topics(kafka, *deployed(kafka))
    did, missing = choice.did, choice.sample_count
    numbers = range(partitions) if did is None else [partition_for(did, partitions)]
    chance = random.Random(choice.seed)  # noqa: S311 - a sample, no secret
    done_count = 0
    with Console(stderr=True).status("") as status:
        for done, number in enumerate(numbers):
            where = f"partition {number} ({done} of {len(numbers)} done)"
            status.update(f"{where}: reading it")
            with read_partition(kafka, topics, number, did) as reading:
                dids: Iterable[Did] = reading.dids()
                if missing is not None:
                    known = list(dids)
                    share = -(-missing // (len(numbers) - done))
                    dids = chance.sample(known, min(share, len(known)))
                    missing -= len(dids)
                audits = reading.audit(dids)
                if servers is None:
                    found = (Audited(audit, None) for audit in audits)
                else:
                    found = (Audited(*pair) for pair in compare_all(reading, audits, servers))
                for audited in found:
                    done_count += 1
                    status.update(f"{where}: {done_count:,} repositories audited")
                    yield audited


class _Requests:
    """Requests on their way to `resyncs`, some at a time."""

    def __init__(self, writer: RequestWriter) -> None:
        self._writer = writer
        self._pending: list[Request] = []

    def add(self, request: Request) -> None:
        self._pending.append(request)
        if len(self._pending) >= REQUESTS_COUNT:
            self.flush()

    def flush(self) -> None:
        self._writer.write(self._pending)
        self._pending.clear()


@contextlib.contextmanager
def _requests(kafka: KafkaConfig) -> Iterator[_Requests]:
    # Ctrl-C ends the audit like any command that only reads: what is pending is not asked for.
    with closing(RequestWriter(kafka, SLOT, threading.Event())) as writer:
        requests = _Requests(writer)
        yield requests
        requests.flush()


def _text_line(audited: Audited) -> str:
    audit, comparison = audited
    parts = [audit.finding, audit.did, audit.sync, f"{audit.records_count} records"]
    parts.append(audit.problem or audit.expected or "no commit")
    if comparison is not None:
        parts.append(comparison.standing)
        if comparison.problem is not None:
            parts.append(comparison.problem)
    return "\t".join(parts)


def _json_line(audited: Audited) -> str:
    comparison = audited.comparison
    server = None if comparison is None else comparison._asdict()
    return json.dumps({**dataclasses.asdict(audited.audit), "pds": server})
