"""Requests on their way into `resyncs`, with how far the lists they come from have been read.

A crawl finds repositories much faster than they are fetched. So it looks at how far the stage
resync is behind, and waits as long as `MAX_OUTSTANDING_COUNT` requests wait there: what is found
by others meanwhile, such as a broken chain, is behind no more than these.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Final

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.crawl.progress import (
    TOPIC,
    Job,
    Progress,
    Target,
    encode_progress,
    parse_progress,
    parse_target,
)
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.lag import LagReader
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.reading import read_between, readable_log_ends
from pipelines.kafka.transaction import Transaction, TransactionalProducer
from pipelines.repair.requests import Request, request_message

STAGE: Final = "crawl"
# Some minutes of work for whoever fetches.
MAX_OUTSTANDING_COUNT: Final = 2_000
# How often that is looked at: at most a page of each list that is read is written in between.
LOOK_INTERVAL_S: Final = 1.0

_log = logs.get_logger(STAGE)

_REQUESTS: Final = "resyncs"
_READERS_STAGE: Final = "resync"


class RequestWriter:
    """Writes requests and progress in transactions. For one thread."""

    def __init__(self, kafka: KafkaConfig, slot: str, stop: threading.Event) -> None:
        """Connects, and ends what an earlier writer of this slot left open.

        Args:
            kafka: the cluster.
            slot: stable name of this writer; another one of that name ends it.
            stop: ends waiting.

        Raises:
            BrokerUnavailableError: the broker does not answer.
            ConfigError: a topic is missing.
            FencedError: another writer took the slot at the same moment.
        """
        self._kafka = kafka
        self._stop = stop
        self._partitions_count = check_partitions(kafka, [_REQUESTS, TOPIC])[_REQUESTS]
        self._topic = kafka.topic(_REQUESTS)
        self._group = kafka.group(_READERS_STAGE)
        self._lags = LagReader(kafka, {self._group: [self._topic]})
        self._looked_s = -LOOK_INTERVAL_S
        self._producer = TransactionalProducer(
            kafka, kafka.transactional_id(STAGE, slot), stop.is_set
        )
        self._producer.start()

    def close(self) -> None:
        """Closes the connections."""
        self._lags.close()

    def write(
        self,
        requests: Sequence[Request],
        progress: Iterable[Progress] = (),
        *,
        forgotten: Iterable[Target] = (),
        others: Iterable[OutputMessage] = (),
    ) -> None:
        """Writes requests, and the progress that they belong to, all or nothing.

        Args:
            requests: whom to ask for.
            progress: how far lists have been read with them.
            forgotten: lists whose progress nobody needs any more.
            others: what belongs to it as well.
        """
        now_us = time.time_ns() // 1_000
        messages = [
            request_message(
                request, partition_for(request.did, self._partitions_count), self._topic
            )
            for request in requests
        ]
        topic = self._kafka.topic(TOPIC)
        messages += [
            OutputMessage(
                topic, 0, item.target.key, encode_progress(item, now_us), [], now_us // 1_000
            )
            for item in progress
        ]
        messages += [
            OutputMessage(topic, 0, target.key, None, [], now_us // 1_000) for target in forgotten
        ]
        messages += others

        def produce(transaction: Transaction) -> None:
            for message in messages:
                transaction.produce(message)

        if messages:
            self._producer.run(produce)

    def wait_for_room(self) -> None:
        """Waits until resync is not too far behind, or until a stop.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """
        is_said = False
        while not self._stop.is_set():
            if time.monotonic() - self._looked_s < LOOK_INTERVAL_S:
                return
            lag = self._lags.read([self._group])[self._group]
            if lag.messages_count < MAX_OUTSTANDING_COUNT:
                self._looked_s = time.monotonic()
                return
            if not is_said:
                _log.info(
                    "waiting",
                    outstanding=lag.messages_count,
                    detail="requests wait to be taken over; is `standpipe resync` running?",
                )
                is_said = True
            self._stop.wait(LOOK_INTERVAL_S)


def stored_progress(kafka: KafkaConfig, job: Job) -> dict[str, Progress]:
    """Returns how far lists have been read, by their subject.

    Args:
        kafka: the cluster.
        job: what they are read for.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    where = (kafka.topic(TOPIC), 0)
    stored: dict[str, Progress] = {}
    for message in read_between(kafka, {where: 0}, readable_log_ends(kafka, [where])):
        target = parse_target(message.key)
        if target.job is not job:
            continue
        if message.value is None:
            stored.pop(target.subject, None)
        else:
            stored[target.subject] = parse_progress(message.value)
    return stored
