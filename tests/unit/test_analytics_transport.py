"""Faust's thread around aiokafka: what a fetch that a rebalance overtook does."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

from faust.transport.consumer import RecordMap
from faust.types import TP

from pipelines.analytics.transport import ConsumerThread

POSITION = TP("records.other", 2)


class Kafka:
    """aiokafka's consumer, as far as a fetch is concerned; it is its own fetcher and context."""

    def __init__(self, app: MagicMock, rebalances_count: int) -> None:
        self.position = 7
        self._app = app
        self._rebalances_count = rebalances_count
        self._closed = False
        self._fetcher = self._subscriptions = self

    def fetch_context(self) -> "Kafka":
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    async def fetched_records(self, _: set[TP], **__: object) -> dict[TP, list[Any]]:
        self._app.consumer_generation_id += self._rebalances_count
        records = [SimpleNamespace(offset=offset) for offset in (self.position, 8)]
        self.position = 9
        return {POSITION: records}

    def seek(self, position: TP, offset: int) -> None:
        assert position == POSITION
        self.position = offset


def fetch(rebalances_count: int) -> tuple[list[int], int]:
    """Returns the offsets that a fetch brings, and the position behind it."""
    app = MagicMock(consumer_generation_id=3)
    consumer = MagicMock(app=app, flow_active=True)
    consumer.transport.app = app
    kafka = Kafka(app, rebalances_count)

    async def run() -> RecordMap:
        thread = ConsumerThread(consumer)
        thread.thread_loop.close()  # that of a thread which never starts
        return await thread._fetch_records(cast(Any, kafka), {POSITION})

    records = asyncio.run(run())
    return [record.offset for record in records.get(POSITION, [])], kafka.position


def test_a_fetch_brings_what_it_found() -> None:
    assert fetch(rebalances_count=0) == ([7, 8], 9)


def test_a_fetch_that_a_rebalance_overtook_puts_back_what_it_found() -> None:
    assert fetch(rebalances_count=1) == ([], 7)
