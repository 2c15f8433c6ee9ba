"""A worker that knows nobody: how long its first frames take, with and without an import before.

One commit of each account of a generated network, whose directory answers as many requests a
second as a worker sends by default. The rest of the pipeline would take the frames in a fraction
of that, so what is measured is the wait for keys.
"""

import asyncio
import tempfile
import threading
import time
import uuid
from pathlib import Path

import aiohttp
import click
from bench.broker import running_broker
from support.frames import publish_frames

from pipelines.atproto.frames import Kind, parse_envelope
from pipelines.config import KafkaConfig
from pipelines.explode.service import create_stage
from pipelines.identity.resolver import DEFAULT_PLC_PER_S, Resolver
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.loop import TransactionalLoop
from pipelines.mirror import service as mirror
from pipelines.mirror.directory import DirectoryExport
from pipelines.relay import subscribe_url
from pipelines.sim.generated import GeneratedNetwork
from pipelines.sim.mix import Mix, Settings
from pipelines.sim.service import SimServer
from pipelines.sim.state import Faults

ACCOUNTS_COUNT = 3_000
PARTITIONS = 4
# What an account begins with: identity, account, commit, sync.
_EVENTS_COUNT = 4 * ACCOUNTS_COUNT
# Nothing but beginnings; a did:web is in no directory.
_MIX = Mix(create_account=1, did_web=0)


def run(_rounds: int) -> None:
    """Prints the table."""
    network = GeneratedNetwork(Settings(ACCOUNTS_COUNT, mix=_MIX), events_count=_EVENTS_COUNT)
    faults = Faults(plc_per_s=DEFAULT_PLC_PER_S)
    with running_broker() as broker, SimServer(network, faults=faults) as sim:
        frames = asyncio.run(_commits(sim))
        assert len(frames) == ACCOUNTS_COUNT
        click.echo(
            f"Cold start: the first commits of {ACCOUNTS_COUNT:,} accounts, "
            f"and a directory that answers {DEFAULT_PLC_PER_S:g} requests/s"
        )
        click.echo(f"{'':16}  import s  worker s  requests")
        for is_imported in (False, True):
            kafka = KafkaConfig(broker.bootstrap_servers, f"bench-{uuid.uuid4().hex[:8]}")
            apply(plan(kafka, PARTITIONS))
            before_count = sum(sim.status()["requests"].values())
            import_s = _import(kafka, sim) if is_imported else 0.0
            worker_s = _work_off(kafka, sim, frames)
            requests_count = sum(sim.status()["requests"].values()) - before_count
            name = "after an import" if is_imported else "without"
            click.echo(f"{name:16}  {import_s:8.1f}  {worker_s:8.1f}  {requests_count:8,}")


async def _commits(sim: SimServer) -> list[bytes]:
    """Reads the whole stream, which makes it happen, and returns the commits in it."""
    frames = []
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(subscribe_url(sim.addresses.relay, 0)) as socket,
    ):
        for _ in range(_EVENTS_COUNT):
            frame = (await socket.receive()).data
            if parse_envelope(frame).kind is Kind.COMMIT:
                frames.append(frame)
    return frames


def _import(kafka: KafkaConfig, sim: SimServer) -> float:
    """Imports the directory; returns the seconds that it took."""
    source = DirectoryExport(sim.addresses.plc, per_s=10, follows=False)
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="standpipe-bench-") as folder:
        tally = mirror.run(
            kafka,
            source,
            Path(folder),
            directory=source.url,
            stop=threading.Event(),
            on_progress=lambda _progress: None,
        )
    assert tally.accepted_count == ACCOUNTS_COUNT
    return time.perf_counter() - started_s


def _work_off(kafka: KafkaConfig, sim: SimServer, frames: list[bytes]) -> float:
    """Proves the frames with a new worker; returns the seconds that it took."""
    publish_frames(kafka, frames, time.time_ns() // 1_000)
    with tempfile.TemporaryDirectory(prefix="standpipe-bench-") as folder:
        stage = create_stage(kafka, Resolver(sim.addresses.plc), Path(folder))
        loop = TransactionalLoop(
            kafka,
            stage_name="explode",
            slot="bench",
            topics=[kafka.topic("frames")],
            stage=stage,
            should_stop=lambda: stage.groups.get("proven", {}).get("commit", 0) >= len(frames),
        )
        started_s = time.perf_counter()
        loop.run()
        taken_s = time.perf_counter() - started_s
        stage.close()
    return taken_s
