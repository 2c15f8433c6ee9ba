"""A flood: tiny events, offered to a bridge as fast as a socket takes them.

The stream is made beforehand, so that the sender only writes: to a reader that throws everything
away first, which tells what is offered, and then to a bridge. What the bridge does not take stays
with the sender, whose writes wait.
"""

import base64
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from bench import processors
from bench.broker import running_broker
from support.bridge import BRIDGE_BYTES, assert_holds_exactly, create_topics, last_seq_in
from support.hostile import HostileUpstream, event, websocket_message
from support.kafka import wait_until
from support.memory import peak_bytes
from support.pipeline import Stage

from pipelines.config import KafkaConfig

EVENTS_COUNT: Final = 200_000
_PIECE_BYTES: Final = 256 * 1024
_TIMEOUT_S: Final = 300.0


class _Flood:
    """A stream of events that is made beforehand.

    Attributes:
        events: the messages.
        bytes_count: of the stream, with the framing of websockets.
        waited_s: how long writes took, of the last connection.
        sent_s: how long it took to write the whole stream, likewise.
    """

    def __init__(self, count: int) -> None:
        self.events = [event(seq) for seq in range(1, count + 1)]
        self._starts = [0]
        stream = bytearray()
        for each in self.events:
            stream += websocket_message(each)
            self._starts.append(len(stream))
        self._stream = memoryview(bytes(stream))
        self.bytes_count = len(stream)
        self.waited_s = self.sent_s = 0.0

    def habit(self, cursor: int) -> Iterator[bytes]:
        """Yields the stream after a cursor, in pieces."""
        begun_s = time.monotonic()
        self.waited_s = 0.0
        for start in range(self._starts[cursor], self.bytes_count, _PIECE_BYTES):
            piece = bytes(self._stream[start : start + _PIECE_BYTES])
            yielded_s = time.monotonic()
            yield piece
            self.waited_s += time.monotonic() - yielded_s
        self.sent_s = time.monotonic() - begun_s


def run(_rounds: int) -> None:
    """Prints what is offered, what is taken, and what the bridge needs for it."""
    flood = _Flood(EVENTS_COUNT)
    click.echo(
        f"A flood: {EVENTS_COUNT:,} events of {len(flood.events[-1])} bytes, made beforehand "
        f"({processors.load()})"
    )
    taken_s = _seconds_into_nothing(flood)
    click.echo(f"  offered, to a reader that throws them away  {_rate(taken_s)} frames/s")
    with running_broker() as broker, tempfile.TemporaryDirectory() as folder:
        kafka = KafkaConfig(broker.bootstrap_servers, f"bench-{uuid.uuid4().hex[:8]}")
        create_topics(kafka)
        _measure(flood, kafka, Path(folder) / "bridge.log")


def _measure(flood: _Flood, kafka: KafkaConfig, log: Path) -> None:
    cluster = ["--bootstrap-servers", kafka.bootstrap_servers]
    prefix = ["--topic-prefix", kafka.topic_prefix]
    with HostileUpstream(flood.habit) as upstream:
        stage = Stage(
            ["bridge", "--relay", upstream.relay, "--cursor", "oldest", *cluster, *prefix], log
        )
        wait_until(lambda: bool(upstream.cursors), "a connection")
        begun_s = time.monotonic()
        wait_until(
            lambda: not stage.is_running or last_seq_in(kafka) == EVENTS_COUNT,
            "all events",
            _TIMEOUT_S,
        )
        taken_s = time.monotonic() - begun_s
        assert stage.is_running, stage.log()
        peak = peak_bytes(stage.process.pid)
        assert stage.stop() == 0, stage.log()
    assert upstream.cursors == [0], "the connection broke"
    assert_holds_exactly(kafka, flood.events)
    assert peak <= BRIDGE_BYTES
    waited = flood.waited_s / flood.sent_s
    click.echo(
        f"  taken by the bridge and committed           {_rate(taken_s)} frames/s, each once\n"
        f"  the sender waited for the socket in {waited:.0%} of its time: the bridge pushes back\n"
        f"  most memory of the bridge: {peak / 2**20:.0f} of {BRIDGE_BYTES / 2**20:.0f} MiB"
        f" ({processors.load()})"
    )


def _seconds_into_nothing(flood: _Flood) -> float:
    with HostileUpstream(flood.habit) as upstream:
        host, port = upstream.host.split(":")
        with socket.create_connection((host, int(port))) as reader:
            key = base64.b64encode(bytes(16))
            reader.sendall(b"GET /?cursor=0 HTTP/1.1\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n")
            begun_s = time.monotonic()
            left = flood.bytes_count
            buffer = bytearray(_PIECE_BYTES)
            while left > 0:
                count = reader.recv_into(buffer)
                assert count, "the sender ended early"
                left -= count
            return time.monotonic() - begun_s


def _rate(taken_s: float) -> str:
    return f"{EVENTS_COUNT / taken_s:11,.0f}"
