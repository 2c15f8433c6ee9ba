"""Reads the results of analytics: for the demo, the status screen, or a program of one's own."""

from collections.abc import Iterator

from pipelines.analytics.minutes import TOPIC as MINUTES
from pipelines.analytics.minutes import (
    Cell,
    MinuteCount,
    Operations,
    parse_minute_count,
    sum_by_cell,
)
from pipelines.analytics.trends import TOPIC as TRENDS
from pipelines.analytics.trends import HourTrend, Trend, parse_trend, sum_by_hour
from pipelines.config import KafkaConfig
from pipelines.kafka.reading import read_to_end


def read_minutes(kafka: KafkaConfig, *, since_us: int = 0) -> dict[Cell, Operations]:
    """Returns what the topic `minutes` says now, by minute, collection and language.

    Args:
        kafka: the cluster.
        since_us: leaves out earlier minutes; microseconds since the epoch. It bounds the memory
            needed, not the time: the topic is read from its beginning.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    last: dict[bytes, MinuteCount] = {}
    for count in map(parse_minute_count, _values(kafka, MINUTES)):
        if count.cell.minute_us >= since_us:
            last[count.key] = count
    return sum_by_cell(last.values())


def read_trends(kafka: KafkaConfig, *, since_us: int = 0) -> dict[int, HourTrend]:
    """Returns what the topic `trends` says now, by start of the hour.

    Args:
        kafka: the cluster.
        since_us: leaves out earlier hours, likewise.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    last: dict[bytes, Trend] = {}
    for trend in map(parse_trend, _values(kafka, TRENDS)):
        if trend.hour_us >= since_us:
            last[trend.key] = trend
    return sum_by_hour(last.values())


def _values(kafka: KafkaConfig, topic: str) -> Iterator[bytes]:
    """Yields what a topic holds; nobody deletes a count, so a null stands for nothing."""
    for message in read_to_end(kafka, [kafka.topic(topic)]):
        if message.value is not None:
            yield message.value
