"""Frames in the topic `frames`, as the bridge writes them."""

import time
from collections.abc import Sequence

from confluent_kafka import Producer

from pipelines.atproto.frames import parse_envelope
from pipelines.atproto.syntax import Did
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.partition import partition_for

HOST = "relay.example"
# When frames are received, microseconds since the epoch, a whole second: after any recording, so
# that no revision is from the future, and now, because Kafka's retention goes by the time of the
# messages: it looks every five minutes, and would delete old ones in the middle of a test.
NOW_US = time.time_ns() // 1_000_000_000 * 1_000_000


def did_of(frame: bytes) -> Did:
    """Returns the account of a frame that can be read."""
    did = parse_envelope(frame).did
    assert did is not None
    return did


def publish_frames(config: KafkaConfig, frames: Sequence[bytes], received_us: int) -> None:
    """Writes frames, all received at the same time."""
    partitions = check_partitions(config, ["frames"])["frames"]
    producer = Producer({"bootstrap.servers": config.bootstrap_servers})
    for frame in frames:
        envelope = parse_envelope(frame)
        assert envelope.did is not None
        producer.produce(
            config.topic("frames"),
            frame,
            envelope.did.encode(),
            partition_for(envelope.did, partitions),
            headers=[
                ("host", HOST.encode()),
                ("seq", str(envelope.seq).encode()),
                ("kind", envelope.kind.encode()),
                ("received_us", str(received_us).encode()),
            ],
            timestamp=received_us // 1000,
        )
    assert producer.flush(20) == 0
