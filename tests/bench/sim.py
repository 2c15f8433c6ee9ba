"""The generated network: how fast it is made, how fast it is served, and what it weighs."""

import asyncio
import itertools
import json
import subprocess
import time
import tracemalloc
from contextlib import ExitStack

import aiohttp
import click

from pipelines.process import start_child
from pipelines.relay import subscribe_url
from pipelines.sim.generator import Generator
from pipelines.sim.mix import Settings
from pipelines.sim.truth import Truth

# Accounts and records of each: trees of about 3, 6 and 9 levels.
_SIZES = ((200, 10), (200, 1_000), (2, 100_000))
_EVENTS_COUNT = 5_000
# What is served at once lies in the buffer of prepared frames.
_SERVED_COUNT = 15_000
_DEADLINE_S = 120.0


def run(_rounds: int) -> None:
    """Prints all of it."""
    measure_generation()
    click.echo()
    measure_serving()
    click.echo()
    measure_memory()


def measure_generation() -> None:
    """Prints the frames/s that one core makes, by the size of repositories."""
    click.echo(f"Generated network: {_EVENTS_COUNT} events made by one core")
    click.echo("  accounts  records each  frames/s  bytes a frame")
    for accounts_count, records_count in _SIZES:
        generator = Generator(Settings(accounts_count, records_count=records_count))
        cpu_s = time.process_time()
        events = list(itertools.islice(generator.events(), _EVENTS_COUNT))
        cpu_s = time.process_time() - cpu_s
        size = sum(len(event.frame) for event in events) / len(events)
        rate = len(events) / cpu_s
        click.echo(f"  {accounts_count:8}  {records_count:12,}  {rate:8,.0f}  {size:13,.0f}")


def measure_serving() -> None:
    """Prints the frames/s that one websocket reader gets, from a process of its own."""
    with ExitStack() as stack:
        child = start_child(
            ["sim", "--accounts", "200", "--records", "1000", "--json"], stdout=subprocess.PIPE
        )
        stack.callback(child.wait)
        stack.callback(child.terminate)
        assert child.stdout is not None
        addresses = json.loads(child.stdout.readline())
        elapsed_s, size = asyncio.run(_read_prepared(addresses["plc"], addresses["relay"]))
    click.echo("Served from the buffer to one websocket reader, in another process")
    click.echo(f"  {_SERVED_COUNT / elapsed_s:8,.0f} frames/s  {size / elapsed_s / 1e6:.0f} MB/s")


async def _read_prepared(base: str, relay: str) -> tuple[float, int]:
    async with asyncio.timeout(_DEADLINE_S), aiohttp.ClientSession() as session:
        prepared_count = 0
        while prepared_count < _SERVED_COUNT:
            await asyncio.sleep(0.2)
            async with session.get(f"{base}/sim/status") as response:
                prepared_count = (await response.json())["frames_prepared"]
        async with session.ws_connect(subscribe_url(relay, 0)) as socket:
            size = len((await socket.receive()).data)
            start_s = time.perf_counter()
            for _ in range(_SERVED_COUNT - 1):
                size += len((await socket.receive()).data)
            return time.perf_counter() - start_s, size


def measure_memory() -> None:
    """Prints the bytes that a record of a large repository takes, its body included."""
    records_count = 100_000
    tracemalloc.start()
    try:
        generator = Generator(Settings(1, records_count=records_count))
        truth = Truth(generator.established)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    [account] = truth.accounts().values()
    bodies = sum(map(len, account.records.values()))
    click.echo(f"A repository of {len(account.records):,} records in memory")
    click.echo(
        f"  {held / len(account.records):8,.0f} bytes a record, "
        f"of which {bodies / len(account.records):,.0f} are its body"
    )
