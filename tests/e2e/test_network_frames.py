"""Recorded frames of the real network, through everything, against what production emitted."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from support.kafka import read_committed, wait_until
from support.pipeline import running_pipeline

from pipelines.captures import read_frames
from pipelines.config import KafkaConfig
from pipelines.identity.offline import OfflineKeys
from pipelines.kafka.topics import registry
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer
from pipelines.verdict import Proven, judge_frame

pytestmark = [pytest.mark.broker, pytest.mark.shared, pytest.mark.slow]


async def read_with_a_foreign_client(bootstrap: str, topics: list[str]) -> list[Any]:
    """Reads topics to their end with aiokafka, which shares no code with our client."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        # Metadata of a topic is fetched when it is first asked for.
        await consumer._client.set_topics(topics)
        partitions = [
            TopicPartition(topic, number)
            for topic in topics
            for number in consumer.partitions_for_topic(topic)
        ]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        messages = []
        ends = await consumer.end_offsets(partitions)
        while True:
            batches = await consumer.getmany(timeout_ms=500)
            messages += [message for batch in batches.values() for message in batch]
            positions = [await consumer.position(where) >= ends[where] for where in partitions]
            if all(positions) and not batches:
                return messages
    finally:
        await consumer.stop()


def test_records_equal_what_the_production_jetstream_emitted(
    kafka: str, topic_prefix: str, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "network-frames"
    config = KafkaConfig(kafka, topic_prefix)
    frames = list(read_frames(folder / "frames.bin"))
    with (
        SimServer(load_network(folder)) as sim,
        running_pipeline(config, sim.addresses, tmp_path, partitions=3) as pipeline,
    ):
        stages = [pipeline.start_bridge(), pipeline.start_worker("0")]
        wait_until(
            lambda: len(read_committed(config, config.topic("events"))) >= len(frames),
            "an event for each frame",
        )
        assert [stage.stop() for stage in stages] == [0, 0]

    topics = [config.topic(topic) for topic in registry().specs["records"].topics]
    messages = asyncio.run(read_with_a_foreign_client(kafka, topics))
    records = [json.loads(message.value) for message in messages]
    assert len(records) == 77
    lines = (folder / "expected_jetstream_v1.jsonl").read_text().splitlines()
    expected = [json.loads(line) for line in lines]
    assert sorted(map(_comparable, records)) == sorted(map(_comparable_jetstream, expected))

    # And each leads to the frame that proves it.
    stored = {(m.partition, m.offset): m for m in read_committed(config, config.topic("frames"))}
    assert sorted(m.value or b"" for m in stored.values()) == sorted(frames)
    keys = OfflineKeys.load(folder / "identities.jsonl")
    for record in records:
        source = stored[record["frame_partition"], record["frame_offset"]]
        verdict = judge_frame(source.value or b"", keys, record["received_us"])
        assert isinstance(verdict, Proven)
        assert verdict.verified.commit.did == record["did"]
        assert verdict.verified.commit.rev == record["rev"]


def _comparable(record: dict[str, Any]) -> str:
    names = ("did", "rev", "operation", "collection", "rkey", "cid", "record")
    return json.dumps([record[name] for name in names], sort_keys=True)


def _comparable_jetstream(line: dict[str, Any]) -> str:
    commit = line["commit"]
    names = ("rev", "operation", "collection", "rkey", "cid", "record")
    return json.dumps([line["did"], *(commit.get(name) for name in names)], sort_keys=True)
