"""Waiting until `repos` says what all frames say that are in Kafka by now.

What is listed is compared with `repos`, and what differs is asked for. While explode or compact
are behind, everything that they have not processed differs.

    1. explode has processed every frame up to where `frames` ends now
    2. compact has processed every event up to where `events` ends then
    3. what compact wrote can be read

A frame that waits for its account's key counts as processed.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.lag import LagReader
from pipelines.kafka.messages import Position
from pipelines.kafka.reading import readable_log_ends

# How often it is looked; a stage that has nothing to write notes its position every five seconds.
LOOK_INTERVAL_S: Final = 0.5
# From when on it is said in the log: a pipeline that keeps up is behind by less.
PATIENCE_S: Final = 15.0

_STEPS: Final = (("explode", "frames"), ("compact", "events"))
_OUTCOME: Final = "repos"
TOPICS: Final = (*(topic for _, topic in _STEPS), _OUTCOME)

_log = logs.get_logger("crawl")


class Settling:
    """Waits for the stages. For one thread."""

    def __init__(
        self, kafka: KafkaConfig, stop: threading.Event, on_wait: Callable[[str | None], None]
    ) -> None:
        """Prepares it.

        Args:
            kafka: the cluster.
            stop: ends waiting.
            on_wait: told what is waited for, in words, and None once it is not any more.

        Raises:
            BrokerUnavailableError: the broker does not answer.
            ConfigError: a topic is missing.
        """
        self._kafka = kafka
        self._stop = stop
        self._on_wait = on_wait
        self._counts = check_partitions(kafka, TOPICS)
        self._lags = LagReader(kafka, {})

    def close(self) -> None:
        """Closes the connections."""
        self._lags.close()

    def wait(self) -> bool:
        """Waits until everything is processed that was in Kafka before the call.

        Returns:
            Whether it is; False after a stop.

        Raises:
            BrokerUnavailableError: the broker does not answer, or a transaction stays open.
        """
        for stage, topic in _STEPS:
            if not self._wait_for(stage, self._ends(topic)):
                return False
        # Positions may be known before the markers of the same transaction are everywhere.
        self._ends(_OUTCOME)
        return True

    def _wait_for(self, stage: str, ends: Mapping[Position, int]) -> bool:
        group = self._kafka.group(stage)
        started_s = time.monotonic()
        is_said = False
        try:
            while self._lags.behind(group, ends):
                self._on_wait(f"{stage} has not processed what came before; is it running?")
                if not is_said and time.monotonic() - started_s > PATIENCE_S:
                    _log.info("waiting", detail=f"{stage} is behind", remedy="is it running?")
                    is_said = True
                if self._stop.wait(LOOK_INTERVAL_S):
                    return False
        finally:
            self._on_wait(None)
        return True

    def _ends(self, topic: str) -> Mapping[Position, int]:
        name = self._kafka.topic(topic)
        return readable_log_ends(
            self._kafka, [(name, number) for number in range(self._counts[topic])]
        )
