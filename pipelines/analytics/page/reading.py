"""Follows the topics of analytics, from as far back as the page shows."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from pipelines import logs
from pipelines.analytics.minutes import TOPIC as MINUTES
from pipelines.analytics.minutes import parse_minute_count
from pipelines.analytics.page.board import HOURS_SHOWN, MINUTES_SHOWN, Board
from pipelines.analytics.trends import TOPIC as TRENDS
from pipelines.analytics.trends import parse_trend
from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka.clients import create_reader

_REQUEST_TIMEOUT_S: Final = 10.0
_POLL_TIMEOUT_S: Final = 0.2
_BATCH_COUNT: Final = 1_000
# How far back each topic is read, ms: what is shown, and the hour or minute that has begun. A
# message is written after the records that it counts.
_BACK_MS: Final = {MINUTES: (MINUTES_SHOWN + 1) * 60_000, TRENDS: (HOURS_SHOWN + 1) * 3_600_000}

TOPICS: Final = tuple(_BACK_MS)

_log = logs.get_logger("page")


def follow(
    kafka: KafkaConfig, board: Board, lock: threading.Lock, should_stop: Callable[[], bool]
) -> None:
    """Fills a board until it is asked to stop. The broker may go away and come back.

    Args:
        kafka: the cluster; the topics exist.
        board: what is filled.
        lock: held while it is.
        should_stop: asked several times a second.

    Raises:
        BrokerUnavailableError: no broker answers at the start.
    """
    consumer = create_reader(kafka)
    try:
        try:
            consumer.assign(
                [place for topic in _BACK_MS for place in _starts(consumer, kafka, topic)]
            )
        except KafkaException as error:
            raise BrokerUnavailableError(
                f"the broker at {kafka.bootstrap_servers} does not answer ({error}); "
                "is it up? `standpipe kafka status` tells"
            ) from None
        parsers = {
            kafka.topic(MINUTES): lambda value: board.add_minute(parse_minute_count(value)),
            kafka.topic(TRENDS): lambda value: board.add_trend(parse_trend(value)),
        }
        while not should_stop():
            messages = consumer.consume(_BATCH_COUNT, _POLL_TIMEOUT_S)
            with lock:
                for message in messages:
                    _add(message, parsers)
                board.forget_old(time.time_ns() // 1000)
    finally:
        consumer.close()


def _starts(consumer: Consumer, kafka: KafkaConfig, topic: str) -> Iterator[TopicPartition]:
    """Yields where to start in each partition of a topic: at its end if nothing is so young."""
    name = kafka.topic(topic)
    partitions = consumer.list_topics(name, _REQUEST_TIMEOUT_S).topics[name].partitions
    since_ms = time.time_ns() // 1_000_000 - _BACK_MS[topic]
    wanted = [TopicPartition(name, partition, since_ms) for partition in partitions]
    yield from consumer.offsets_for_times(wanted, timeout=_REQUEST_TIMEOUT_S)


def _add(message: Message, parsers: dict[str, Callable[[bytes], None]]) -> None:
    topic, value = message.topic(), message.value()
    if message.error() or topic is None or value is None:
        return
    try:
        parsers[topic](value)
    except ValueError as error:
        _log.warning("not_understood", topic=topic, offset=message.offset(), detail=str(error))
