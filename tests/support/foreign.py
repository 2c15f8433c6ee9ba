"""Topics as somebody else's client reads them: aiokafka, which shares no code with librdkafka."""

import asyncio

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from pipelines.config import KafkaConfig
from pipelines.kafka.messages import InputMessage

# A hundred thousand messages take some ten seconds.
TIMEOUT_S = 120.0


def read_foreign(config: KafkaConfig, topic: str) -> list[InputMessage]:
    """Reads what is committed of all partitions, up to the first open transaction."""
    return asyncio.run(_read(config, topic))


async def _read(config: KafkaConfig, topic: str) -> list[InputMessage]:
    # Without a group it has all partitions at once.
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=config.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        group_id=None,
    )
    await consumer.start()
    try:
        partitions = sorted(consumer.assignment())
        assert partitions, f"{topic} is not there"
        pending = await consumer.end_offsets(partitions)
        messages: list[InputMessage] = []
        async with asyncio.timeout(TIMEOUT_S):
            while pending:
                batches = await consumer.getmany(timeout_ms=200)
                messages += (_convert(record) for batch in batches.values() for record in batch)
                for where, end in list(pending.items()):
                    if await consumer.position(where) >= end:
                        del pending[where]
    finally:
        await consumer.stop()
    return sorted(messages, key=lambda message: (message.partition, message.offset))


def _convert(record: ConsumerRecord) -> InputMessage:
    return InputMessage(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key,
        value=record.value,
        headers=list(record.headers),
    )
