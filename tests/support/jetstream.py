"""The JSON stream, its input, and a client of others that reads it."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
from support.admissions import NOBODY
from support.recordings import load_recording
from support.served import PATIENCE_S, in_thread
from websockets.sync.client import ClientConnection, connect

from pipelines.config import KafkaConfig
from pipelines.explode.outputs import OutputTopics, outputs_of
from pipelines.explode.sources import Source
from pipelines.kafka.messages import InputMessage, OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.serving import jetstream_server
from pipelines.verdict import judge_frame

_TOPICS = OutputTopics("events", "quarantine", "identities", "parked", "records", {}, NOBODY)


def event_message(event: Mapping[str, Any]) -> InputMessage:
    """Returns a message of `events`, as it is read back."""
    headers = [("did", event["did"].encode()), ("kind", event["kind"].encode())]
    key = event["did"].encode()
    timestamp_ms = event["received_us"] // 1000
    return InputMessage("events", 0, 0, timestamp_ms, key, orjson.dumps(event), headers)


def recorded_events(folder: Path, first_us: int) -> list[OutputMessage]:
    """Returns the events of recorded frames that were received a millisecond apart."""
    recording = load_recording(folder)
    events = []
    for number, frame in enumerate(recording.frames):
        received_us = first_us + 1000 * number
        message = InputMessage("frames", 0, number, received_us // 1000, None, frame, [])
        verdict = judge_frame(frame, recording.keys, received_us)
        outputs = outputs_of(verdict, Source("relay.example", received_us, message), _TOPICS)
        events += [output for output in outputs if output.topic == "events"]
    return events


def account_event(did: str, received_us: int, seq: int = 1) -> dict[str, Any]:
    """Returns an event of the kind that is simplest."""
    return {
        "kind": "account",
        "did": did,
        "seq": seq,
        "host": "relay.example",
        "time": "2026-11-01T00:00:00Z",
        "received_us": received_us,
        "frame_partition": 0,
        "frame_offset": seq,
        "active": True,
        "status": None,
    }


def output_of(event: Mapping[str, Any], topic: str, partitions: int) -> OutputMessage:
    """Returns the message that explode would write for an event."""
    message = event_message(event)
    number = partition_for(event["did"], partitions)
    return OutputMessage(
        topic, number, message.key, message.value, message.headers, message.timestamp_ms
    )


def did_in(partition: int, partitions: int, number: int = 0) -> str:
    """Returns the name of an account that is in a partition."""
    found = (
        did
        for counted in range(1_000_000)
        if partition_for(did := f"did:web:a{counted}.example", partitions) == partition
    )
    return next(did for index, did in enumerate(found) if index == number)


def without_time(message: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "time_us"}


@contextlib.contextmanager
def serving(kafka: KafkaConfig, port: int = 0) -> Iterator[str]:
    """Serves the stream of a deployment while the block runs; yields its address."""

    def serve(tell: Callable[[str], None], should_stop: Callable[[], bool]) -> None:
        def on_listening(host: str, found: int) -> None:
            tell(f"ws://{host}:{found}{jetstream_server.PATH}")

        jetstream_server.serve(kafka, "127.0.0.1", port, on_listening, should_stop)

    with in_thread(serve) as address:
        yield address


def subscribe(address: str, **query: str | int | Sequence[str]) -> ClientConnection:
    """Connects with parameters."""
    return connect(
        f"{address}?{urlencode(query, doseq=True)}", max_size=None, open_timeout=PATIENCE_S
    )


def take(socket: ClientConnection, count: int) -> list[Any]:
    """Returns the next messages, decoded."""
    return [json.loads(socket.recv(PATIENCE_S)) for _ in range(count)]


def collect(address: str, count: int, **query: str | int | Sequence[str]) -> list[Any]:
    """Returns the first messages for a subscriber."""
    with subscribe(address, **query) as socket:
        return take(socket, count)
