"""Watches partitions and groups until nothing is suspicious any more, or long enough.

Reads only: nothing is committed, and no group is joined.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException

from pipelines.config import KafkaConfig
from pipelines.doctor.snapshot import Ends, Group, Look, Traffic
from pipelines.doctor.traffic import is_settled
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka.clients import create_admin
from pipelines.kafka.lag import Lag, LagReader
from pipelines.kafka.messages import Position
from pipelines.kafka.reading import REQUEST_TIMEOUT_S, insist, log_ends, log_starts
from pipelines.kafka.topics import Registry
from pipelines.status.stages import STAGES, lag_inputs, retention_ms

# Consumer groups of others that are looked at; on a shared cluster there may be any number.
MAX_OTHER_GROUPS: Final = 200
PAUSE_S: Final = 1.0


class Watcher:
    """Looks at the same partitions and groups again and again."""

    def __init__(
        self, kafka: KafkaConfig, known: Registry, partitions: Mapping[str, Sequence[int]]
    ) -> None:
        """Prepares it; it connects on first use.

        Args:
            kafka: the cluster.
            known: the registry.
            partitions: of the deployment's topics that exist, by physical name.
        """
        self._kafka = kafka
        self._known = known
        self._where = [(topic, number) for topic in partitions for number in partitions[topic]]
        # What cannot be read because a topic is missing is another check's to say.
        self._inputs = {
            group: topics
            for group, topics in lag_inputs(kafka, known).items()
            if all(topic in partitions for topic in topics)
        }
        self._admin = create_admin(kafka)

    def watch(self, patience_s: float, announce: Callable[[str], None]) -> Traffic:
        """Watches until everything that may be stuck has moved, or for as long as given.

        Args:
            patience_s: what moves more rarely counts as stuck.
            announce: is told what is being waited for.

        Raises:
            BrokerUnavailableError: the broker does not answer, or refuses to.
        """
        others = self._others()
        with contextlib.closing(LagReader(self._kafka, self._inputs)) as reader:
            busy = {group for group, lag in reader.read(self._inputs).items() if _is_behind(lag)}
            started_s = time.monotonic()
            first = last = self._look(others)
            while (elapsed_s := time.monotonic() - started_s) < patience_s:
                if elapsed_s > PAUSE_S and is_settled(first, last, busy):
                    break
                announce(f"watching transactions and groups, {patience_s - elapsed_s:.0f} s")
                time.sleep(PAUSE_S)
                last = self._look(others)
            lags = reader.read(self._inputs)
        return Traffic(
            first=first,
            last=last,
            watched_s=elapsed_s,
            groups={group: self._group(group, lags[group]) for group in self._inputs},
        )

    def _look(self, others: Iterable[str]) -> Look:
        positions = {group: self._positions(group) for group in (*self._inputs, *others)}
        # After the positions: whoever is ahead of these ends was ahead before, too. And the true
        # ends after the others, so that they are never less.
        stable = log_ends(self._kafka, self._where, is_readable=True)
        high = log_ends(self._kafka, self._where)
        return Look(positions, {where: Ends(stable[where], high[where]) for where in self._where})

    def _group(self, group: str, lag: Lag) -> Group:
        stage = next(stage for stage in STAGES if self._kafka.group(stage.name) == group)
        topics = set(self._inputs[group])
        starts = log_starts(self._kafka, [where for where in self._where if where[0] in topics])
        return Group(
            stage=stage.name,
            members_count=self._members_count(group),
            lag=lag,
            retention_ms=retention_ms(stage, self._known),
            starts={where: start for where, start in starts.items() if start is not None},
        )

    def _others(self) -> list[str]:
        """Returns groups of others that have positions in our topics."""
        listed = self._result(
            lambda: self._admin.list_consumer_groups(request_timeout=REQUEST_TIMEOUT_S)
        )
        names = sorted(group.group_id for group in listed.valid)
        names = [name for name in names if name not in self._inputs][:MAX_OTHER_GROUPS]
        return [name for name in names if self._positions(name)]

    def _positions(self, group: str) -> dict[Position, int]:
        """Returns where a group goes on reading in our topics, as far as it ever said."""
        found = self._result(
            lambda: self._admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=REQUEST_TIMEOUT_S
            )[group]
        )
        topics = {topic for topic, _ in self._where}
        return {
            (where.topic, where.partition): where.offset
            for where in found.topic_partitions
            if where.topic in topics and where.offset >= 0
        }

    def _members_count(self, group: str) -> int:
        found = self._result(
            lambda: self._admin.describe_consumer_groups(
                [group], request_timeout=REQUEST_TIMEOUT_S
            )[group]
        )
        return len(found.members)

    def _result(self, ask: Callable[[], Future[Any]]) -> Any:
        try:
            return insist(lambda: ask().result(2 * REQUEST_TIMEOUT_S))
        except (KafkaException, TimeoutError) as error:
            raise BrokerUnavailableError(
                f"the broker at {self._kafka.bootstrap_servers} does not tell about groups: "
                f"{error}"
            ) from None


def _is_behind(lag: Lag) -> bool:
    return lag.messages_count > 0
