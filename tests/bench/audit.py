"""Audits and exports: from a local store to a compared root, from messages to a CAR."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
from bench.repo import make_repository
from support.events import source
from support.exports import Export
from support.reexport import export_messages, head_of, messages_of

from pipelines.atproto.commit import parse_commit
from pipelines.compact.audit import Finding, audit_repo
from pipelines.compact.state import RepoState, Sync
from pipelines.compact.store import Changes, Meta, Record, Store
from pipelines.kafka.messages import OutputMessage

_SIZES = (1_000, 10_000, 100_000)
# Making a large repository takes seconds: fewer rounds do for it.
_MAX_ROUNDS_COUNT = 5


def run(rounds: int) -> None:
    """Measures and prints."""
    rounds = min(rounds, _MAX_ROUNDS_COUNT)
    click.echo(
        f"Audits and exports of one repository: by processor time, the fastest of {rounds} rounds"
    )
    for count in _SIZES:
        made = make_repository(count)
        with tempfile.TemporaryDirectory() as folder:
            store = _fill(Path(folder), made)
            _print_line("audited in the local store", count, rounds, lambda: _audit(store, made))  # noqa: B023 - called at once
            store.close()
        commit = parse_commit(made.commit)
        bodies = {path: block for path, _, block in made.contents()}
        messages = messages_of(commit.did, commit.rev, bodies)
        _print_line("exported as a CAR", count, 1, lambda: _export(made, messages))  # noqa: B023 - called at once


def _print_line(what: str, count: int, rounds: int, call: Callable[[], None]) -> None:
    best_s = float("inf")
    for _ in range(rounds):
        start_s = time.process_time()
        call()
        best_s = min(best_s, time.process_time() - start_s)
    name = f"{count:,} records, {what}"
    click.echo(f"{name:48}  {count / best_s:9,.0f} records/s  {best_s / count * 1e6:6.2f} µs")


def _fill(folder: Path, made: Export) -> Store:
    commit = parse_commit(made.commit)
    store = Store(folder)
    records = {(commit.did, path): Record(cid, commit.rev) for path, cid in made.records.items()}
    store.write(Changes(records=dict(records)), Meta({}))
    return store


def _audit(store: Store, made: Export) -> None:
    commit = parse_commit(made.commit)
    state = RepoState(commit.did, source(), sync=Sync.SYNCHRONIZED, head=head_of(commit))
    records = ((path, record.cid) for path, record in store.records(commit.did))
    assert audit_repo(state, records).finding is Finding.MATCHES


def _export(made: Export, messages: list[OutputMessage]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert export_messages(Path(folder), made.commit, messages, made.records)
