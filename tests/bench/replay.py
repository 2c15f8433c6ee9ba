"""Replays into every kind of place: messages/s and MB/s, from the broker to what was written.

Each line reads the same topics from the beginning: frames of a generated network as the bridge
writes them, or the records or events that are in them. MB are those of the values that were read,
or of what the JSON socket sent. The broker is beside it on the same machine; the processor time is
that of the replay alone, all threads counted. The places take turns in every round, so that a slow
moment meets all of them. A socket is served by a process that counts from the subscription on; its
reader does nothing else.
"""

import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click
from bench.broker import running_broker
from bench.processors import load, used
from support.admissions import PACKAGED
from support.kafka import create_topic
from support.network import DirectoryKeys, make_events
from support.reduced import write_messages
from support.replay import RELAY, FrameWriter, Sent, consumed, run_replay
from support.served import subscribe

from pipelines.config import KafkaConfig
from pipelines.explode.outputs import outputs_of
from pipelines.explode.service import output_topics
from pipelines.explode.sources import Source
from pipelines.kafka.admin import apply, plan
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.topics import registry
from pipelines.serving.jetstream_events import encode_event
from pipelines.serving.jetstream_options import Wanted
from pipelines.sim.events import Event
from pipelines.sim.mix import Settings
from pipelines.verdict import judge_frame

FRAMES_COUNT = 20_000
PARTITIONS = 4
# A round takes half a minute on a busy machine.
MAX_ROUNDS = 3
# Of one transaction of the bridge.
_BATCH_COUNT = 400


class _Size(NamedTuple):
    """How much is replayed: messages, and the bytes of their values."""

    messages_count: int
    size_bytes: int


class _Taken(NamedTuple):
    """Seconds that a replay took, by the clock and of the processor."""

    clock_s: float
    cpu_s: float


def run(rounds: int) -> None:
    """Prints the table."""
    events = make_events(Settings(200, records_count=1_000), FRAMES_COUNT)
    with running_broker() as broker, tempfile.TemporaryDirectory() as folder:
        kafka = KafkaConfig(broker.bootstrap_servers, f"bench-{uuid.uuid4().hex[:8]}")
        apply(plan(kafka, PARTITIONS))
        frames = _write_frames(kafka, events)
        records, texts = _write_outputs(kafka, events)
        frames_server = ["frames", "--host", RELAY, "--serve", "0"]
        json_server = ["events", "--serve-jetstream", "0"]
        rounds = min(rounds, MAX_ROUNDS)
        click.echo(
            f"Replay from {PARTITIONS} partitions, at the fastest of {rounds} rounds, and at the "
            f"median ({load()})"
        )
        click.echo(f"{'':34} messages    MB |  messages/s   MB/s  median | µs of CPU a message")
        taken: dict[str, list[_Taken]] = {}
        for number in range(rounds):
            for name, arguments in _places(kafka, Path(folder), number).items():
                taken.setdefault(name, []).append(_replay(kafka, arguments))
            taken.setdefault("frames to a socket", []).append(_serve(kafka, frames_server, frames))
            taken.setdefault("events to a JSON socket", []).append(
                _serve(kafka, json_server, texts)
            )
        sizes = {"records": records, "events": texts}
        for name, found in taken.items():
            _print(name, sizes.get(name.partition(" ")[0].partition(".")[0], frames), found)


def _places(kafka: KafkaConfig, folder: Path, number: int) -> Mapping[str, Sequence[str]]:
    """Returns the arguments of each line, into places that nothing was written to."""
    second = KafkaConfig(kafka.bootstrap_servers, f"{kafka.topic_prefix}-{number}")
    target = create_topic(second, "frames", PARTITIONS)
    return {
        "frames to .frames": ("frames", "--to-file", str(folder / f"{number}.frames")),
        "frames in their host's order": (
            *("frames", "--host", RELAY, "--to-file", str(folder / f"{number}-host.frames")),
        ),
        "frames to .jsonl.zst": ("frames", "--to-file", str(folder / f"{number}.jsonl.zst")),
        "frames to a topic, exactly once": ("frames", "--to-topic", target),
        "records.* to .jsonl.zst": (
            *("records.*", "--to-file", str(folder / f"{number}-records.jsonl.zst")),
        ),
        "records.* to Parquet": ("records.*", "--to-parquet", str(folder / f"{number}-lake")),
    }


def _replay(kafka: KafkaConfig, arguments: Sequence[str]) -> _Taken:
    started_s, cpu_s = time.perf_counter(), time.process_time()
    result = run_replay(kafka, *arguments)
    taken = _Taken(time.perf_counter() - started_s, time.process_time() - cpu_s)
    assert result.return_value == 0, result.stderr
    return taken


def _serve(kafka: KafkaConfig, arguments: Sequence[str], size: _Size) -> _Taken:
    program = [sys.executable, "-c", "from pipelines.cli import main; main()"]
    cluster = ["--bootstrap-servers", kafka.bootstrap_servers]
    prefix = ["--topic-prefix", kafka.topic_prefix]
    with subprocess.Popen(
        [*program, "replay", *arguments, *cluster, *prefix],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        before = used([process.pid])
        started_s = time.perf_counter()
        with subscribe(url, 0) as socket:
            received = (socket.recv(decode=False) for _ in range(size.messages_count))
            size_bytes = sum(map(len, received))
        clock_s = time.perf_counter() - started_s
        after = used([process.pid])
        process.send_signal(signal.SIGINT)
    assert (process.returncode, size_bytes) == (0, size.size_bytes)
    return _Taken(clock_s, after.by_pid[process.pid] - before.by_pid[process.pid])


def _print(name: str, size: _Size, taken: Sequence[_Taken]) -> None:
    count, mb = size.messages_count, size.size_bytes / 1e6
    least_s, median_s = (choose(found.clock_s for found in taken) for choose in (min, median))
    cpu_us = min(found.cpu_s for found in taken) * 1e6 / count
    click.echo(
        f"{name:34} {count:8,} {mb:5.0f} | {count / least_s:11,.0f} {mb / least_s:6.1f} "
        f"{count / median_s:7,.0f} | {cpu_us:6.1f}"
    )


def _write_frames(kafka: KafkaConfig, events: Sequence[Event]) -> _Size:
    now_ms = time.time_ns() // 1_000_000
    sent = [
        Sent(RELAY, event.seq, event.frame, now_ms - len(events) + number)
        for number, event in enumerate(events)
    ]
    writer = FrameWriter(kafka, PARTITIONS)
    for at in range(0, len(sent), _BATCH_COUNT):
        writer.write(sent[at : at + _BATCH_COUNT])
    return _Size(len(sent), sum(len(one.frame) for one in sent))


def _write_outputs(kafka: KafkaConfig, events: Sequence[Event]) -> tuple[_Size, _Size]:
    """Writes what explode makes of frames; returns the size of the records, and of the events.

    That of the events is what the JSON socket sends of them.
    """
    keys, topics = DirectoryKeys(), output_topics(kafka, registry(), PACKAGED)
    names = {*topics.records_by_collection.values(), topics.records_other}
    first_us = time.time_ns() // 1_000 - 1_000 * len(events)
    records: list[OutputMessage] = []
    changes: list[OutputMessage] = []
    for number, event in enumerate(events):
        did, received_us = event.state.did, first_us + 1_000 * number
        keys.identities[did] = event.state.identity
        frame = OutputMessage(
            kafka.topic("frames"),
            partition_for(did, PARTITIONS),
            did.encode(),
            event.frame,
            [],
            received_us // 1_000,
        )
        verdict = judge_frame(event.frame, keys, received_us)
        source = Source(RELAY, received_us, consumed(frame, number))
        outputs = outputs_of(verdict, source, topics)
        records += [output for output in outputs if output.topic in names]
        changes += [output for output in outputs if output.topic == topics.events]
    write_messages(kafka, records)
    write_messages(kafka, changes)
    texts = [
        len(text)
        for number, change in enumerate(changes)
        for text in encode_event(consumed(change, number), Wanted())
    ]
    return (
        _Size(len(records), sum(len(message.value or b"") for message in records)),
        _Size(len(texts), sum(texts)),
    )
