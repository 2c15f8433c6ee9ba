"""The repositories of a redrive are asked for, unless they need nothing."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Final

from pipelines.config import KafkaConfig
from pipelines.crawl.census import Census, census
from pipelines.crawl.listing import PAGE_LIMIT
from pipelines.crawl.redrive import Redrive
from pipelines.crawl.writing import RequestWriter
from pipelines.kafka.admin import check_partitions
from pipelines.repair.requests import Request

SLOT: Final = "redrive"


@dataclass(slots=True)
class Outcome:
    """What became of the accounts of a redrive.

    Attributes:
        requested_count: those that were asked for, or would be.
        here_count: those whose repository is complete, and as new as their messages.
    """

    requested_count: int = 0
    here_count: int = 0


def request_all(
    kafka: KafkaConfig, found: Redrive, stop: threading.Event, *, is_dry: bool
) -> Outcome:
    """Asks for the repositories of a redrive.

    Args:
        kafka: the cluster.
        found: everything that was judged.
        stop: ends it half-way.
        is_dry: write nothing.

    Raises:
        BrokerUnavailableError: the broker does not answer.
        ConfigError: a topic is missing.
        FencedError: another redrive has taken over.
    """
    outcome = Outcome()
    partitions_count = check_partitions(kafka, ["repos"])["repos"]
    with census(kafka, partitions_count) as known:
        wanted = _wanted(found, known, outcome)
        if is_dry:
            outcome.requested_count = sum(1 for _ in wanted)
            return outcome
        with closing(RequestWriter(kafka, SLOT, stop)) as writer:
            while not stop.is_set() and (requests := list(islice(wanted, PAGE_LIMIT))):
                writer.write(requests)
                outcome.requested_count += len(requests)
                writer.wait_for_room()
    return outcome


def _wanted(found: Redrive, known: Census, outcome: Outcome) -> Iterator[Request]:
    now_us = time.time_ns() // 1_000
    for did in found.dids:
        request = found.request(did, known.get(did), now_us)
        if request is None:
            outcome.here_count += 1
        else:
            yield request
