"""A bridge as a test runs it, in a thread or as a process, and what it has written."""

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support import wire
from support.kafka import read_committed, read_decided, wait_until

from pipelines.bridge import service
from pipelines.bridge.cursor import Start, load_cursors
from pipelines.bridge.messages import StoredCursor
from pipelines.config import KafkaConfig
from pipelines.kafka import admin
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.topics import validator
from pipelines.sim.network import CapturedNetwork, captured_frames
from pipelines.sim.service import SimServer

STANDPIPE = Path(sys.executable).with_name("standpipe")
PARTITIONS = 3
TOPICS = ("admissions", "frames", "quarantine", "cursors", "epochs", "gaps", "status")
# What a bridge takes of memory, as ARCHITECTURE.md says under "Buffers and their limits".
BRIDGE_BYTES = 256 * 1024 * 1024
EXIT_TIMEOUT_S = 120.0


def create_topics(config: KafkaConfig) -> None:
    """Creates the topics of a deployment with nothing but a bridge, as schemas/ has them."""
    plan = admin.plan(config, PARTITIONS)
    wanted = {config.topic(name) for name in TOPICS}
    create = tuple(topic for topic in plan.create if topic.name in wanted)
    admin.apply(dataclasses.replace(plan, create=create))


class RunningBridge:
    """A bridge in a thread; leaving the context stops it and raises what it raised."""

    def __init__(
        self,
        config: KafkaConfig,
        relays: str | Sequence[str],
        start: Start | int | None = None,
        slot: str = "0",
        servers: Sequence[str] = (),
    ) -> None:
        self._stopping = threading.Event()
        self._executor = ThreadPoolExecutor(1)
        self.future = self._executor.submit(
            service.run,
            config,
            [relays] if isinstance(relays, str) else relays,
            start if isinstance(start, Start) else Start(start),
            self._stopping.is_set,
            slot,
            servers,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._executor.shutdown()
        if exc is None:
            self.future.result(0)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(lambda: self.future.done() or condition(), what)
        if self.future.done():
            self.future.result(0)
            assert condition(), f"the bridge ended before: {what}"


def identity(seq: int, *, number: int = 0, fill: int = 0) -> bytes:
    payload = {"did": f"did:web:a{number}.example", "seq": seq, "time": wire.START_TIME}
    return wire.frame("#identity", payload | {"fill": bytes(fill)})


def synthetic(*messages: bytes | str) -> CapturedNetwork:
    return CapturedNetwork(captured_frames(messages))


def load_cursor(config: KafkaConfig, host: str) -> StoredCursor | None:
    return load_cursors(config, {host}).get(host)


def host_of(sim: SimServer) -> str:
    return sim.addresses.relay.removeprefix("ws://")


def frames_in(config: KafkaConfig) -> list[InputMessage]:
    """The frames in Kafka, in the upstream's order."""
    return sorted(read_decided(config, config.topic("frames")), key=seq_of)


def seq_of(message: InputMessage) -> int:
    return int(dict(message.headers)["seq"])


def json_in(config: KafkaConfig, topic: str) -> list[dict[str, Any]]:
    """The values of a topic of JSON messages; each must be as its schema says."""
    values = [json.loads(m.value or b"") for m in read_committed(config, config.topic(topic))]
    for value in values:
        validator(topic, 1).validate(value)
    return values


def last_seq_in(config: KafkaConfig) -> int:
    """The last committed cursor of the one host in the topic; 0 without any."""
    return max((cursor["seq"] for cursor in json_in(config, "cursors")), default=0)


def assert_holds_exactly(config: KafkaConfig, messages: Sequence[bytes | str]) -> None:
    """All messages are in `frames`, each once, byte for byte, in order in every partition."""
    stored = read_decided(config, config.topic("frames"))
    for partition in range(PARTITIONS):
        seqs = [seq_of(message) for message in stored if message.partition == partition]
        assert seqs == sorted(set(seqs))
    assert [message.value for message in frames_in(config)] == list(messages)


@contextmanager
def bridge_process(
    config: KafkaConfig, relays: str | Sequence[str], *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `standpipe bridge`; leaving the context kills what is left of it."""
    process = subprocess.Popen(
        [
            STANDPIPE,
            "bridge",
            *(f"--relay={one}" for one in ([relays] if isinstance(relays, str) else relays)),
            f"--bootstrap-servers={config.bootstrap_servers}",
            f"--topic-prefix={config.topic_prefix}",
            *options,
        ],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=EXIT_TIMEOUT_S)
