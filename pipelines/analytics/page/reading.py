"""Follows the topics of analytics, from as far back as the page shows."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Final

from pipelines import logs
from pipelines.analytics.minutes import TOPIC as MINUTES
from pipelines.analytics.minutes import parse_minute_count
from pipelines.analytics.page.board import HOURS_SHOWN, MINUTES_SHOWN, Board
from pipelines.analytics.trends import TOPIC as TRENDS
from pipelines.analytics.trends import parse_trend
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.following import Follower
from pipelines.kafka.messages import InputMessage, Position
from pipelines.kafka.reading import log_ends, log_starts

_IDLE_S: Final = 0.2
_BATCH_COUNT: Final = 1_000
# How far back each topic is read, ms: what is shown, and the hour or minute that has begun. A
# message is written after the records that it counts.
_BACK_MS: Final = {MINUTES: (MINUTES_SHOWN + 1) * 60_000, TRENDS: (HOURS_SHOWN + 1) * 3_600_000}

_log = logs.get_logger("page")


def find_starts(kafka: KafkaConfig) -> dict[Position, int]:
    """Returns where to begin in each partition: at its end if nothing is young enough.

    Args:
        kafka: the cluster.

    Raises:
        BrokerUnavailableError: no broker answers.
        ConfigError: topics are missing.
    """
    now_ms = time.time_ns() // 1_000_000
    starts: dict[Position, int] = {}
    for topic, count in check_partitions(kafka, list(_BACK_MS)).items():
        wheres = [(kafka.topic(topic), partition) for partition in range(count)]
        # The end first: what comes in between is read, and not passed over.
        ends = log_ends(kafka, wheres)
        since = log_starts(kafka, wheres, now_ms - _BACK_MS[topic])
        starts |= {
            where: ends[where] if found is None else found for where, found in since.items()
        }
    return starts


def follow(
    kafka: KafkaConfig,
    starts: Mapping[Position, int],
    board: Board,
    lock: threading.Lock,
    should_stop: Callable[[], bool],
) -> None:
    """Fills a board until it is asked to stop. The broker may go away and come back.

    Args:
        kafka: the cluster.
        starts: the partitions, and where to begin.
        board: what is filled.
        lock: held while it is.
        should_stop: asked several times a second.
    """
    parsers = {
        kafka.topic(MINUTES): lambda value: board.add_minute(parse_minute_count(value)),
        kafka.topic(TRENDS): lambda value: board.add_trend(parse_trend(value)),
    }
    with closing(Follower(kafka)) as follower:
        follower.assign(starts)
        while not should_stop():
            messages = follower.poll(_BATCH_COUNT)
            with lock:
                for message in messages:
                    _add(message, parsers[message.topic])
                board.forget_old(time.time_ns() // 1000)
            if not messages:
                time.sleep(_IDLE_S)


def _add(message: InputMessage, add: Callable[[bytes], None]) -> None:
    if message.value is None:
        return
    try:
        add(message.value)
    except ValueError as error:
        _log.warning(
            "not_understood", topic=message.topic, offset=message.offset, detail=str(error)
        )
