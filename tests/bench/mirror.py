"""Importing a PLC directory: operations/s, from the lines of its export to the topic.

The accounts are as servers make them: two rotation keys, of which the second, the server's, signs.
So two signatures are tried for each operation, one of them in vain. Half of the operations make an
account, half change its handle. Each line of the table does what the line before does and one
thing more; the steps take turns in every round, so that a slow moment meets all of them. Times are
of the processor, all threads counted.
"""

import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import click
import orjson
from bench.broker import running_broker
from support import plc
from support.repo import Signer

from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.identity.plc import Chain, parse_entry
from pipelines.kafka.admin import apply, plan
from pipelines.mirror import service
from pipelines.mirror.dump import DumpFile
from pipelines.mirror.export import PAGE_LINES, parse_page, position_after
from pipelines.mirror.intake import Intake
from pipelines.mirror.store import Meta, Store

ACCOUNTS_COUNT = 15_000
OPERATIONS_COUNT = 2 * ACCOUNTS_COUNT
PARTITIONS = 4
# A round takes some seconds.
MAX_ROUNDS = 3

_OWNER, _SERVER = Signer(secret=1), Signer(secret=2)
_META = Meta("https://plc.directory", "bench")


def run(rounds: int) -> None:
    """Prints the table."""
    lines = _export()
    pages = [b"\n".join(lines[at : at + PAGE_LINES]) for at in range(0, len(lines), PAGE_LINES)]
    size_bytes = sum(map(len, lines)) // len(lines)
    click.echo(f"Import of a PLC directory: {len(lines):,} operations, {size_bytes} bytes each")
    click.echo(f"{'':34}  µs min  median  operations/s a core")
    steps: Mapping[str, Callable[[Sequence[bytes]], None]] = {
        "JSON and positions, no validation": _read,
        "+ form, bytes and hashes": _parse,
        "+ signatures and succession": _judge,
        "+ the store of later operations": _judge_and_store,
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(min(rounds, MAX_ROUNDS)):
        for name, step in steps.items():
            started_s = time.process_time()
            step(pages)
            times[name].append(time.process_time() - started_s)
    for name, taken in times.items():
        _print(name, min(taken), median(taken))
    with running_broker() as broker:
        cpu_s, taken_s = _import(broker.bootstrap_servers, lines)
    _print("+ the topic, through the broker", cpu_s, cpu_s)
    click.echo(f"by the clock, broker beside it: {OPERATIONS_COUNT / taken_s:,.0f} operations/s")


def _print(name: str, least_s: float, median_s: float) -> None:
    least_us, median_us = (taken * 1e6 / OPERATIONS_COUNT for taken in (least_s, median_s))
    click.echo(f"{name:34}  {least_us:6.1f}  {median_us:6.1f}  {1e6 / least_us:19,.0f}")


def _export() -> list[bytes]:
    rotation = [_OWNER, _SERVER]
    firsts = [
        plc.operation(
            None,
            _SERVER,
            rotation,
            verificationMethods={"atproto": Signer(secret=1_000 + number).key.did_key()},
            alsoKnownAs=[f"at://account{number}.example.com"],
        )
        for number in range(ACCOUNTS_COUNT)
    ]
    dids = [plc.did_of(first) for first in firsts]
    seconds = [
        plc.operation(
            first,
            _SERVER,
            rotation,
            verificationMethods=first["verificationMethods"],
            alsoKnownAs=[f"at://{number}.example.org"],
        )
        for number, first in enumerate(firsts)
    ]
    entries = [
        plc.entry(number / 3_600, operation, did)
        for number, (did, operation) in enumerate(zip(dids + dids, firsts + seconds, strict=True))
    ]
    return [
        orjson.dumps(entry | {"type": "sequenced_op", "seq": seq})
        for seq, entry in enumerate(entries, start=1)
    ]


def _read(pages: Sequence[bytes]) -> None:
    position = "0"
    for page in pages:
        position = position_after(position, parse_page(page), is_full=True)


def _parse(pages: Sequence[bytes]) -> None:
    for page in pages:
        for line in parse_page(page):
            parse_entry(line["did"], line)


def _judge(pages: Sequence[bytes]) -> None:
    chains: dict[Did, Chain] = {}
    intake = Intake(lambda did: chains.get(did, ()))
    for page in pages:
        intake.add(parse_page(page))
        chains |= intake.take().chains


def _judge_and_store(pages: Sequence[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.write({}, _META)
        intake = Intake(store.chain)
        accepted_count = 0
        for page in pages:
            intake.add(parse_page(page))
            batch = intake.take()
            store.write(batch.chains, _META)
            accepted_count += batch.tally.accepted_count
        store.close()
    assert accepted_count == OPERATIONS_COUNT


def _import(bootstrap: str, lines: Sequence[bytes]) -> tuple[float, float]:
    """Returns the seconds that a whole import takes, of the processor and by the clock."""
    kafka = KafkaConfig(bootstrap, f"bench-{uuid.uuid4().hex[:8]}")
    apply(plan(kafka, PARTITIONS))
    with tempfile.TemporaryDirectory() as folder:
        # The first one alone: a fresh broker takes seconds for its first transaction.
        for name, wanted in (("first", lines[:1]), ("all", lines)):
            dump = Path(folder, f"{name}.jsonl")
            dump.write_bytes(b"\n".join(wanted))
            started_s, cpu_s = time.perf_counter(), time.process_time()
            tally = service.run(
                kafka,
                DumpFile(dump),
                Path(folder, name),
                directory=_META.directory,
                stop=threading.Event(),
                on_progress=lambda _progress: None,
            )
            assert tally.accepted_count == len(wanted)
    return time.process_time() - cpu_s, time.perf_counter() - started_s
