"""What the bridge leaves behind, for replays of it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner, Result
from support.kafka import create_topic

from pipelines.atproto.errors import FrameError
from pipelines.atproto.frames import parse_envelope
from pipelines.bridge.intake import Publish
from pipelines.bridge.messages import Outputs, batch_of, epochs_of
from pipelines.bridge.upstream import Handed, Origin
from pipelines.captures import read_frames
from pipelines.cli.replay import command
from pipelines.config import KafkaConfig
from pipelines.kafka.messages import InputMessage, OutputMessage
from pipelines.kafka.transaction import Transaction, TransactionalProducer

RELAY = "relay.example"
OTHER = "other.example"
# An hour ago: what is older than the retention of frames would be deleted while a test reads it.
FIRST_MS = (time.time_ns() // 1_000_000_000 - 3_600) * 1_000


class Sent(NamedTuple):
    """A frame that an upstream brought."""

    host: str
    seq: int
    frame: bytes
    received_ms: int

    @property
    def entry(self) -> Publish:
        envelope = parse_envelope(self.frame)
        assert envelope.did is not None
        return Publish(
            self.frame, envelope.did, self.seq, envelope.kind, None, self.received_ms * 1000
        )


def recorded_frames(folder: Path) -> list[Sent]:
    """Returns recorded frames, a second of arrival apart, every third of another host."""
    sent: list[Sent] = []
    for frame in read_frames(folder / "frames.bin"):
        try:
            envelope = parse_envelope(frame)
        except FrameError:
            continue
        if envelope.did is not None and envelope.seq is not None:
            host = OTHER if len(sent) % 3 == 2 else RELAY
            sent.append(Sent(host, envelope.seq, frame, FIRST_MS + 1000 * len(sent)))
    return sent


def run_replay(config: KafkaConfig, *arguments: str) -> Result:
    """Runs `standpipe replay`, without a process of its own.

    Its exit code is the result's `return_value`; what `standpipe` would explain is raised.
    """
    cluster = ["--bootstrap-servers", config.bootstrap_servers]
    prefix = ["--topic-prefix", config.topic_prefix]
    return CliRunner().invoke(
        command, [*arguments, *cluster, *prefix], standalone_mode=False, catch_exceptions=False
    )


def create_bridge_topics(config: KafkaConfig, partitions: int) -> None:
    """Creates what `FrameWriter` writes to, and nothing else."""
    create_topic(config, "frames", partitions)
    create_topic(config, "epochs", 1)


class FrameWriter:
    """Writes frames and epochs as the bridge does: some at a time, in one transaction."""

    def __init__(self, config: KafkaConfig, partitions: int) -> None:
        self._outputs = Outputs(
            frames=config.topic("frames"),
            quarantine=config.topic("quarantine"),
            cursors=config.topic("cursors"),
            epochs=config.topic("epochs"),
            gaps=config.topic("gaps"),
            frames_partitions=partitions,
            quarantine_partitions=partitions,
        )
        self._next_offsets = dict.fromkeys(range(partitions), 0)
        self._producer = TransactionalProducer(
            config, config.transactional_id("bridge", "test"), lambda: False
        )
        self._producer.start()

    def write(self, sent: Sequence[Sent], *, is_committed: bool = True) -> None:
        """Writes frames with the epoch of each host."""
        entries = [Handed(Origin(one.host, 1), one.entry) for one in sent]
        batch = batch_of(entries, self._outputs)

        def body(transaction: Transaction) -> None:
            for message in batch.frames:
                transaction.produce(message, wants_offset=True)
            delivered = transaction.delivered_offsets()
            self._next_offsets.update(
                {number: offset for (_, number), offset in delivered.items()}
            )
            for epoch in epochs_of(batch, self._outputs, self._next_offsets):
                transaction.produce(epoch)
            if not is_committed:
                raise _AbortedError

        try:
            self._producer.run(body)
        except _AbortedError:
            assert not is_committed

    def write_all(self, sent: Sequence[Sent], count: int) -> None:
        """Writes frames, so many a transaction, each second time after one that is aborted."""
        for index in range(0, len(sent), count):
            part = sent[index : index + count]
            if index // count % 2:
                self.write(part, is_committed=False)
            self.write(part)


class _AbortedError(Exception):
    """A transaction is to be given up."""


def consumed(message: OutputMessage, offset: int) -> InputMessage:
    """Returns a message as it is read back."""
    return InputMessage(
        message.topic,
        message.partition,
        offset,
        message.timestamp_ms,
        message.key,
        message.value,
        message.headers,
    )
