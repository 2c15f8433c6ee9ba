"""Resync through a real broker: from a server's CARs to committed snapshots, one worker."""

import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import click
from bench.broker import running_broker
from bench.repo import make_repository
from support.repo import SIGNER, commit_fields, sign_commit
from support.resyncs import PARTITIONS, Accounts, ask
from support.wire import rev

from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.counts import LoopCounts
from pipelines.kafka.loop import TransactionalLoop
from pipelines.resync import service
from pipelines.resync.service import Limits, Servers
from pipelines.resync.stage import STAGE

_LARGE_COUNT, _LARGE_RECORDS_COUNT = 3, 50_000
_SMALL_COUNT, _SMALL_RECORDS_COUNT = 1_000, 20
# What is measured is our own work, not how considerate it is.
_LIMITS = Limits(host_count=16, host_budget=10_000_000)


def run(_rounds: int) -> None:
    """Prints the rates for a few large and for many small repositories."""
    click.echo("resync through the broker, one worker: fetched, proven, published")
    with running_broker() as broker:
        for repos_count, records_count in (
            (_LARGE_COUNT, _LARGE_RECORDS_COUNT),
            (_SMALL_COUNT, _SMALL_RECORDS_COUNT),
        ):
            _measure(broker.bootstrap_servers, repos_count, records_count)


def _measure(bootstrap: str, repos_count: int, records_count: int) -> None:
    kafka = KafkaConfig(bootstrap, f"bench-{uuid.uuid4().hex[:8]}")
    apply(plan(kafka, PARTITIONS))
    dids = [Did(f"did:plc:{number:024}") for number in range(repos_count)]
    with tempfile.TemporaryDirectory() as folder:
        cars = {did: Path(folder) / f"{number}.car" for number, did in enumerate(dids)}
        made = make_repository(records_count)
        for did, path in cars.items():
            fields = commit_fields(made.root, did=did, rev=rev(records_count))
            path.write_bytes(replace(made, commit=sign_commit(fields)).car())
        size_bytes = sum(path.stat().st_size for path in cars.values())
        with _served(cars) as url:
            accounts = Accounts(url)
            accounts.keys = dict.fromkeys(dids, SIGNER.key)
            ask(kafka, *dids)
            stage = service.create_stage(
                kafka, accounts, Path(folder), Servers(allow_loopback=True), _LIMITS
            )
            counts = LoopCounts()
            moments: list[tuple[float, float]] = []

            def is_done() -> bool:
                has_begun = "requests" in stage.groups
                is_over = _snapshots_count(stage.groups) >= repos_count
                if has_begun and (is_over or not moments):
                    moments.append((time.perf_counter(), time.process_time()))
                return is_over

            TransactionalLoop(
                kafka,
                stage_name=STAGE,
                slot="bench",
                topics=[kafka.topic("resyncs")],
                stage=stage,
                should_stop=is_done,
                counts=counts,
            ).run()
            assert stage.groups["snapshots"]["records"] == repos_count * records_count
            stage.close()
    (start_s, start_cpu_s), *_, (end_s, end_cpu_s) = moments
    elapsed_s, cpu_s = end_s - start_s, end_cpu_s - start_cpu_s
    total = repos_count * records_count
    click.echo(
        f"  {total / elapsed_s:8,.0f} records/s  {repos_count / elapsed_s:7.1f} repositories/s  "
        f"{repos_count:,} of {records_count:,} records, {size_bytes / 1e6:.0f} MB of CAR, "
        f"{counts.transactions_count} transactions, {counts.output_bytes / 1e6:.0f} MB out; "
        f"{cpu_s / total * 1e6:.1f} µs of CPU a record"
    )


def _snapshots_count(groups: Mapping[str, Mapping[str, int]]) -> int:
    return groups.get("fetches", {}).get("snapshot", 0)


@contextmanager
def _served(cars: Mapping[Did, Path]) -> Iterator[str]:
    """Serves repositories from a process of its own, as a server elsewhere does."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, dict(cars)), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, cars: Mapping[Did, Path]) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            [did] = parse_qs(urlsplit(self.path).query)["did"]
            body = cars[Did(did)].read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pipe.send(server.server_port)
    server.serve_forever()
