"""Writing a replay into another topic, each message exactly once.

How far it goes is in the transaction that writes the messages: as positions of a group that
nobody joins, `standpipe.<prefix>.replay.<target>`, each with a note that names what was asked for
and the end of its partition. So a run that was killed is gone on with up to the ends that were
noted at its beginning, and one that is whole is not written a second time.

Keys, values, headers and timestamps are those of the originals. The partition is that of the
account in the target.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import orjson
from confluent_kafka import KafkaException, TopicPartition

from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError, ConfigError
from pipelines.kafka.clients import create_admin, create_bookkeeper
from pipelines.kafka.messages import InputMessage, OutputMessage, Position
from pipelines.kafka.partition import partition_for
from pipelines.kafka.reading import REQUEST_TIMEOUT_S
from pipelines.kafka.topics import PartitionBy
from pipelines.kafka.transaction import Transaction, TransactionalProducer
from pipelines.replay.planning import Plan
from pipelines.replay.progress import Progress, Spec
from pipelines.replay.selection import did_of
from pipelines.replay.window import Range

# A transaction holds up readers of its target until it ends.
TOPIC_BLOCK_BYTES: Final = 2 * 1024 * 1024
_STAGE: Final = "replay"


class TopicOutput:
    """One topic of the same cluster."""

    block_bytes = TOPIC_BLOCK_BYTES
    is_prompt = True

    def __init__(
        self,
        kafka: KafkaConfig,
        target: str,
        plan: Plan,
        spec: Spec,
        should_stop: Callable[[], bool],
        *,
        is_again: bool = False,
    ) -> None:
        """Looks at the target and writes nothing yet.

        Args:
            kafka: the cluster; its prefix is that of the sources.
            target: physical name of the topic.
            plan: what is read.
            spec: what is asked for.
            should_stop: asked while the broker is away.
            is_again: whether to write what was written before a second time.

        Raises:
            BrokerUnavailableError: the broker does not answer.
            ConfigError: there is no such topic, or it cannot take these messages.
        """
        self._partitions_count = _check_target(kafka, target, plan)
        self._target = target
        self._spec = spec
        self._digest = digest_of(spec)
        self._wheres = tuple(plan.ranges)
        self._is_again = is_again
        self._written: dict[Position, int] = {}
        self._ends: dict[Position, int] = {}
        self._producer = TransactionalProducer(
            kafka, kafka.transactional_id(_STAGE, target), should_stop
        )
        self._bookkeeper = create_bookkeeper(kafka, kafka.group(f"{_STAGE}.{target}"))

    def load(self) -> Progress | None:
        """As of `Output`; ends a predecessor that is still at work."""
        self._producer.start()
        found = self._noted()
        ranges = {where: noted for where, (_, noted) in found.items()}
        is_whole = all(start >= end for start, end in ranges.values())
        is_same = {digest for digest, _ in found.values()} == {self._digest} and (
            found.keys() == set(self._wheres)
        )
        if is_same and not (is_whole and self._is_again):
            self._take_over(ranges)
            return Progress(self._spec, ranges)
        if not is_whole and not self._is_again:
            raise ConfigError(
                f"a replay into {self._target} that was asked for something else is unfinished: "
                "run that again to finish it, or give it up with --again"
            )
        return None

    def begin(self, progress: Progress) -> None:
        """As of `Output`."""
        self._take_over(progress.ranges)
        self._written.clear()  # of which none is noted yet
        self.write((), progress)

    def write(self, messages: Sequence[InputMessage], progress: Progress) -> None:
        """As of `Output`.

        Raises:
            RefusedByBrokerError: the target does not take one of the messages.
            FencedError: another replay into the same topic was started.
        """
        outputs = [self._output(message) for message in messages]
        moved = {
            where: start
            for where, (start, _) in progress.ranges.items()
            if self._written.get(where) != start
        }

        def body(transaction: Transaction) -> None:
            for output in outputs:
                transaction.produce(output)
            transaction.send_offsets(moved, self._bookkeeper.consumer_group_metadata(), self._note)

        if outputs or moved:
            self._producer.run(body)
            self._written.update(moved)

    def finish(self) -> None:
        """As of `Output`: it is there already."""

    def close(self) -> None:
        """As of `Output`."""
        self._bookkeeper.close()

    def _take_over(self, ranges: Mapping[Position, Range]) -> None:
        self._written = {where: start for where, (start, _) in ranges.items()}
        self._ends = {where: end for where, (_, end) in ranges.items()}

    def _output(self, message: InputMessage) -> OutputMessage:
        did = did_of(message)
        partition = (
            message.partition
            if did is None
            else partition_for(did.decode(), self._partitions_count)
        )
        return OutputMessage(
            self._target,
            partition,
            message.key,
            message.value,
            message.headers,
            message.timestamp_ms,
        )

    def _note(self, where: Position) -> str:
        return f"{self._digest} {self._ends[where]}"

    def _noted(self) -> dict[Position, tuple[str, Range]]:
        """Returns what is noted of each partition: of what replay, and what is left."""
        wanted = [TopicPartition(*where) for where in self._wheres]
        try:
            found = self._bookkeeper.committed(wanted, timeout=REQUEST_TIMEOUT_S)
        except KafkaException as failure:
            raise BrokerUnavailableError(
                f"the positions of a replay into {self._target} cannot be read: "
                f"{failure.args[0].str()}"
            ) from None
        noted = {}
        for where in found:
            digest, _, end = (where.metadata or "").partition(" ")
            if where.offset >= 0 and end.isdecimal():
                left = Range(where.offset, int(end))
                noted[where.topic, where.partition] = (digest, left)
        return noted


def digest_of(spec: Spec) -> str:
    """Returns a short name of what was asked for."""
    content = orjson.dumps(dict(spec), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()[:16]


def check_not_ours(kafka: KafkaConfig, target: str, sources: Collection[str]) -> None:
    """Checks that a replay may write into a topic: each of a deployment's has one writer.

    Args:
        kafka: the deployment.
        target: physical name.
        sources: those of the topics that are read.

    Raises:
        ConfigError: it may not.
    """
    if target in sources:
        raise ConfigError(f"{target} is what is replayed: name another topic")
    if target.startswith(f"{kafka.topic_prefix}."):
        raise ConfigError(
            f"{target} is one of this deployment's, and its stages write there: name a topic of "
            "another prefix (`standpipe topics apply --topic-prefix NAME` creates them)"
        )


def _check_target(kafka: KafkaConfig, target: str, plan: Plan) -> int:
    check_not_ours(kafka, target, plan.topics)
    try:
        found = create_admin(kafka).list_topics(timeout=REQUEST_TIMEOUT_S).topics.get(target)
    except KafkaException as failure:
        raise BrokerUnavailableError(
            f"the broker at {kafka.bootstrap_servers} does not tell about {target} "
            f"({failure.args[0].str()}); is it up? `standpipe kafka status` tells"
        ) from None
    if found is None:
        raise ConfigError(
            f"there is no topic {target} at {kafka.bootstrap_servers}: create it, or all of a "
            "prefix with `standpipe topics apply --topic-prefix NAME`"
        )
    count = len(found.partitions)
    misplaced = [
        topic
        for topic, (_, spec, partitions) in plan.topics.items()
        if partitions != count and spec.key.partition_by is not PartitionBy.DID
    ]
    if misplaced:
        raise ConfigError(
            f"{target} has {count} partitions and {', '.join(misplaced)} another number: only "
            "messages of accounts can be placed anew; create it with as many"
        )
    return count
