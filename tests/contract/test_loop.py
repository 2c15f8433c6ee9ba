"""The contract of the transactional loop (pipelines/kafka/loop.py), on a real broker."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import pytest
from confluent_kafka import Consumer, TopicPartition
from support.kafka import create_topic, delete_before, produce, read_committed, wait_until
from support.stages import Copy

from pipelines.config import KafkaConfig
from pipelines.errors import (
    BrokerUnavailableError,
    FencedError,
    HungCallError,
    OffsetLostError,
    RefusedByBrokerError,
    TransientError,
)
from pipelines.kafka.loop import Background, TransactionalLoop, run_restarting
from pipelines.kafka.messages import InputMessage, OutputMessage, Position
from pipelines.kafka.reading import read_between, readable_log_ends
from pipelines.kafka.transaction import GroupMovedOnError, Transaction

pytestmark = pytest.mark.broker

PARTITIONS = 2


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    return KafkaConfig(kafka, topic_prefix)


@pytest.fixture
def topics(config: KafkaConfig) -> tuple[str, str]:
    return create_topic(config, "in", PARTITIONS), create_topic(
        config, "out", PARTITIONS, {"message.timestamp.after.max.ms": "3600000"}
    )


class Runner:
    """Runs loops in threads and stops them at the end of the test."""

    def __init__(self, config: KafkaConfig, source: str) -> None:
        self.config = config
        self.source = source
        self._running: list[tuple[threading.Thread, threading.Event]] = []

    def loop(self, stage: Copy, slot: str, should_stop: Callable[[], bool]) -> TransactionalLoop:
        return TransactionalLoop(
            self.config,
            stage_name="copy",
            slot=slot,
            topics=[self.source],
            stage=stage,
            should_stop=should_stop,
        )

    def start(self, stage: Copy, slot: str = "0") -> tuple[threading.Event, list[BaseException]]:
        stop = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                self.loop(stage, slot, stop.is_set).run()
            except BaseException as error:  # noqa: BLE001 - the test judges it
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        self._running.append((thread, stop))
        return stop, failures

    def stop_all(self) -> None:
        for _, stop in self._running:
            stop.set()
        for thread, _ in self._running:
            thread.join(120)
            assert not thread.is_alive(), "a loop did not stop"
        self._running.clear()


@pytest.fixture
def runner(config: KafkaConfig, topics: tuple[str, str]) -> Iterator[Runner]:
    runner = Runner(config, topics[0])
    yield runner
    runner.stop_all()


def numbered(count: int) -> list[tuple[int, bytes]]:
    return [(n % PARTITIONS, b"%d" % n) for n in range(count)]


def committed_position(config: KafkaConfig, stage: str, topic: str) -> int:
    """Returns the committed position of a stage in partition 0 of a topic."""
    consumer = Consumer(
        {"bootstrap.servers": config.bootstrap_servers, "group.id": config.group(stage)}
    )
    try:
        [found] = consumer.committed([TopicPartition(topic, 0)], timeout=20)
    finally:
        consumer.close()
    return found.offset


def values(messages: Sequence[InputMessage]) -> list[tuple[int, bytes | None]]:
    return [(message.partition, message.value) for message in messages]


def in_partition_order(inputs: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    return sorted(inputs, key=lambda item: (item[0], int(item[1])))


def test_each_input_appears_once_and_in_order_over_stops_and_starts(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner
) -> None:
    source, out = topics
    produce(config, source, numbered(300))
    stage = Copy(out)
    stop, failures = runner.start(stage)
    wait_until(lambda: len(read_committed(config, out)) > 0, "first outputs")
    stop.set()
    runner.stop_all()
    produce(config, source, [(p, v) for p, v in numbered(600)[300:]])
    runner.start(Copy(out))
    wait_until(lambda: len(read_committed(config, out)) >= 600, "all outputs")
    runner.stop_all()
    assert failures == []
    assert values(read_committed(config, out)) == in_partition_order(numbered(600))


def test_a_bug_commits_nothing_of_its_batch_and_the_next_start_redoes_it(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner
) -> None:
    source, out = topics
    produce(config, source, numbered(50))

    def fail(message: InputMessage) -> None:
        if message.value == b"31":
            raise ZeroDivisionError

    _, failures = runner.start(Copy(out, fail))
    wait_until(lambda: len(failures) == 1, "the loop to end with the bug")
    runner.stop_all()
    assert isinstance(failures[0], ZeroDivisionError)
    assert (1, b"31") not in values(read_committed(config, out))
    runner.start(Copy(out))
    wait_until(lambda: len(read_committed(config, out)) >= 50, "the rest")
    runner.stop_all()
    assert values(read_committed(config, out)) == in_partition_order(numbered(50))


def test_what_was_finished_before_a_missing_dependency_is_published_and_the_rest_waits(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner
) -> None:
    source, out = topics
    inputs = [(0, b"%d" % n) for n in range(20)]
    produce(config, source, inputs)
    is_away = threading.Event()
    is_away.set()
    tries = []

    def need(message: InputMessage) -> None:
        if message.value == b"7" and is_away.is_set():
            tries.append(message.offset)
            raise TransientError("the directory is away", retry_after_s=0.1)

    runner.start(Copy(out, need))
    wait_until(lambda: len(tries) > 2, "several tries")
    assert values(read_committed(config, out)) == [(0, b"%d" % n) for n in range(7)]
    is_away.clear()
    wait_until(lambda: len(read_committed(config, out)) >= 20, "the rest")
    runner.stop_all()
    assert values(read_committed(config, out)) == inputs


def test_work_of_its_own_goes_on_while_a_batch_waits_and_commits_nothing_of_the_batch(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner
) -> None:
    source, out = topics
    inputs = [(0, b"%d" % n) for n in range(20)]
    produce(config, source, inputs)
    is_away = threading.Event()
    is_away.set()

    def need(message: InputMessage) -> None:
        if message.value == b"7" and is_away.is_set():
            raise TransientError("the directory is away", retry_after_s=0.1)

    class Busy(Copy):
        slices = 0

        def background(self, partitions: Collection[int]) -> Background | None:
            if not is_away.is_set() or 0 not in partitions:
                return None
            self.slices += 1
            return Background(0, [OutputMessage(out, 1, None, b"%d" % self.slices, [], 0)])

    runner.start(Busy(out, need))
    wait_until(lambda: committed_position(config, "copy", source) == 7, "the first messages")
    wait_until(lambda: len(read_committed(config, out)) > 7 + 3, "slices of its own work")
    assert committed_position(config, "copy", source) == 7
    is_away.clear()
    wait_until(lambda: committed_position(config, "copy", source) == 20, "the rest")
    runner.stop_all()
    written = values(read_committed(config, out))
    assert [item for item in written if item[0] == 0] == inputs
    slices = [value for partition, value in written if partition == 1]
    assert slices == [b"%d" % (number + 1) for number in range(len(slices))]


def test_a_rebalance_while_a_batch_waits_gives_it_to_one_owner(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner
) -> None:
    source, out = topics
    produce(config, source, numbered(100))
    is_away = threading.Event()
    is_away.set()

    def need(message: InputMessage) -> None:
        if message.value in {b"10", b"11"} and is_away.is_set():
            raise TransientError("the directory is away", retry_after_s=0.2)

    stages = [Copy(out, need), Copy(out, need)]
    runner.start(stages[0], "0")
    wait_until(lambda: len(read_committed(config, out)) > 0, "the first member's prefix")
    runner.start(stages[1], "1")
    wait_until(lambda: len(stages[1].prepared) > 0, "the second member to get a partition")
    is_away.clear()
    wait_until(lambda: len(read_committed(config, out)) >= 100, "all outputs")
    runner.stop_all()
    assert values(read_committed(config, out)) == in_partition_order(numbered(100))


def test_members_that_come_and_go_lose_and_repeat_nothing(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner
) -> None:
    source, out = topics
    runner.start(Copy(out), "0")
    for round_number in range(3):
        stop, failures = runner.start(Copy(out), f"guest-{round_number}")
        start = round_number * 200
        produce(config, source, numbered(start + 200)[start:])
        wanted = start + 100
        wait_until(lambda: len(read_committed(config, out)) >= wanted, "progress")  # noqa: B023
        stop.set()
        assert failures == []
    wait_until(lambda: len(read_committed(config, out)) >= 600, "all outputs")
    runner.stop_all()
    assert values(read_committed(config, out)) == in_partition_order(numbered(600))


def test_a_second_process_in_the_same_slot_fences_the_first(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner
) -> None:
    source, out = topics
    _, failures = runner.start(Copy(out), "same")
    produce(config, source, numbered(10))
    wait_until(lambda: len(read_committed(config, out)) >= 10, "the first outputs")
    _, rival_failures = runner.start(Copy(out), "same")

    def both_had_work() -> bool:
        produce(config, source, [(0, b"100"), (1, b"101")])
        return len(failures) > 0

    wait_until(both_had_work, "the first process to be fenced")
    assert isinstance(failures[0], FencedError)
    assert rival_failures == []


class Lives:
    """What is made again and again; each of its lives ends as it is told."""

    def __init__(self, *ends: Exception | None) -> None:
        self.left = list(ends)

    def run(self) -> None:
        end = self.left.pop(0)
        if end is not None:
            raise end


def test_a_fenced_loop_is_started_again_once_and_then_ends() -> None:
    lives = Lives(FencedError("gone"), FencedError("gone again"), None)
    with pytest.raises(FencedError, match="gone again"):
        run_restarting(lambda: lives, lambda: False)
    assert len(lives.left) == 1


def test_calls_that_hang_and_a_broker_that_stays_away_are_no_rivals() -> None:
    """A long outage ends no stage: its producer is given up, and the next one waits as long."""
    hung, away = HungCallError("no answer"), BrokerUnavailableError("away")
    lives = Lives(hung, away, FencedError("timed out"), away, hung, hung, None)
    run_restarting(lambda: lives, lambda: not lives.left)
    assert not lives.left


def test_a_broker_that_is_away_at_the_start_ends_the_process() -> None:
    lives = Lives(BrokerUnavailableError("away"), None)
    with pytest.raises(BrokerUnavailableError):
        run_restarting(lambda: lives, lambda: False)
    assert len(lives.left) == 1


def test_who_is_asked_to_stop_does_not_wait_for_the_broker() -> None:
    lives = Lives(HungCallError("no answer"), BrokerUnavailableError("away"))
    with pytest.raises(BrokerUnavailableError):
        run_restarting(lambda: lives, lambda: not lives.left)


def test_positions_of_inputs_without_output_are_committed_at_the_stop(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner
) -> None:
    source, out = topics
    produce(config, source, [(0, b"silent")] * 5)
    seen: list[int] = []
    runner.start(Copy(out, lambda message: seen.append(message.offset)))
    wait_until(lambda: len(seen) == 5, "the silent inputs")
    runner.stop_all()
    produce(config, source, [(0, b"1")])
    runner.start(Copy(out, lambda message: seen.append(message.offset)))
    wait_until(lambda: len(read_committed(config, out)) == 1, "the only output")
    runner.stop_all()
    assert seen[5:] == [5]  # none of the silent ones was read again


def test_a_group_that_moves_on_during_the_stop_ends_the_loop_quietly(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = topics
    produce(config, source, [(0, b"silent")])
    seen: list[int] = []

    def refuse(*_: object) -> None:
        raise GroupMovedOnError("another member has the partition")

    monkeypatch.setattr(Transaction, "send_offsets", refuse)
    _, failures = runner.start(Copy(out, lambda message: seen.append(message.offset)))
    wait_until(lambda: len(seen) == 1, "the silent input")
    runner.stop_all()
    assert failures == []


def test_a_position_that_the_broker_deleted_stops_the_process(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner
) -> None:
    source, out = topics
    produce(config, source, [(0, b"%d" % n) for n in range(10)])
    runner.start(Copy(out))
    wait_until(lambda: len(read_committed(config, out)) == 10, "the first outputs")
    runner.stop_all()
    produce(config, source, [(0, b"%d" % n) for n in range(10, 20)])
    delete_before(config, source, {0: 15})
    _, failures = runner.start(Copy(out))
    wait_until(lambda: len(failures) == 1, "the loop to notice the loss")
    assert isinstance(failures[0], OffsetLostError)
    assert len(read_committed(config, out)) == 10


def test_a_message_that_the_broker_will_never_take_stops_the_process(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner
) -> None:
    source, out = topics
    produce(config, source, numbered(4))

    class FromTheFuture(Copy):
        def process(self, message: InputMessage) -> Sequence[OutputMessage]:
            [copy] = super().process(message)
            return [copy._replace(timestamp_ms=message.timestamp_ms + 7 * 86_400_000)]

    _, failures = runner.start(FromTheFuture(out))
    wait_until(lambda: len(failures) == 1, "the loop to give up")
    assert isinstance(failures[0], RefusedByBrokerError)
    assert read_committed(config, out) == []


def test_a_full_producer_queue_waits_instead_of_dropping(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner
) -> None:
    source, out = topics
    produce(config, source, [(0, b"1")])

    class Burst(Copy):
        def process(self, message: InputMessage) -> Sequence[OutputMessage]:
            # 100 MB from one input: more than the producer's queue of 64 MiB.
            value = bytes(1_000_000)
            return [OutputMessage(self.out, 0, None, value, [], message.timestamp_ms)] * 100

    runner.start(Burst(out))
    wait_until(lambda: len(read_committed(config, out)) >= 100, "all of the burst")
    runner.stop_all()
    assert len(read_committed(config, out)) == 100


class Numbering(Copy):
    """A stage with state: numbers the messages of each partition, going on where the topic ends.

    So many of its restorations fail before one works, and so many slices of work are its own.
    """

    def __init__(
        self, config: KafkaConfig, out: str, *, failing_count: int = 0, slices_count: int = 0
    ) -> None:
        super().__init__(out)
        self._config = config
        self._numbers: dict[int, int] = {}
        self._uncommitted: dict[int, int] = {}
        self.failing_count = failing_count
        self.slices_count = slices_count
        self.ends: dict[Position, int] = {}

    def restore(self, partitions: Sequence[int]) -> Iterator[None]:
        self._numbers = dict.fromkeys(partitions, 0)
        if self.failing_count > 0:
            self.failing_count -= 1
            raise TransientError("the state is away")
        for partition in partitions:
            ends = readable_log_ends(self._config, [(self.out, partition)])
            for message in read_between(self._config, dict.fromkeys(ends, 0), ends):
                self._numbers[partition] = int(message.value or b"")
            yield

    def process(self, message: InputMessage) -> Sequence[OutputMessage]:
        return [self._next(message.partition, message.timestamp_ms)]

    def background(self, partitions: Collection[int]) -> Background | None:
        if self.slices_count == 0 or 0 not in partitions:
            return None
        self.slices_count -= 1
        return Background(0, [self._next(0, 0)])

    def committed(self, next_offsets: Mapping[Position, int]) -> None:
        self._numbers |= self._uncommitted
        self._uncommitted.clear()
        self.ends |= next_offsets

    def discard(self) -> None:
        self._uncommitted.clear()

    def _next(self, partition: int, timestamp_ms: int) -> OutputMessage:
        number = self._uncommitted.get(partition, self._numbers[partition]) + 1
        self._uncommitted[partition] = number
        return OutputMessage(self.out, partition, None, b"%d" % number, [], timestamp_ms)


def numbers(config: KafkaConfig, topic: str) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for message in read_committed(config, topic):
        found.setdefault(message.partition, []).append(int(message.value or b""))
    return found


def test_state_is_restored_before_the_first_message_whoever_had_the_partition(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner
) -> None:
    source, out = topics
    first = Numbering(config, out, failing_count=2)
    runner.start(first, "0")
    for round_number in range(3):
        stop, failures = runner.start(Numbering(config, out), f"guest-{round_number}")
        produce(config, source, numbered(200))
        wanted = round_number * 200 + 100
        wait_until(lambda: len(read_committed(config, out)) >= wanted, "progress")  # noqa: B023
        stop.set()
        assert failures == []
    wait_until(lambda: len(read_committed(config, out)) >= 600, "all outputs")
    runner.stop_all()
    assert first.failing_count == 0
    expected = list(range(1, 301))
    assert numbers(config, out) == dict.fromkeys(range(PARTITIONS), expected)


def test_a_stage_learns_where_its_committed_messages_end(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner
) -> None:
    source, out = topics
    stage = Numbering(config, out)
    produce(config, source, numbered(40))
    runner.start(stage)
    wait_until(lambda: len(read_committed(config, out)) >= 40, "all outputs")
    runner.stop_all()
    last = {message.partition: message.offset for message in read_committed(config, out)}
    assert stage.ends == {(out, partition): offset + 1 for partition, offset in last.items()}


def test_a_stage_s_own_work_comes_between_its_inputs(
    config: KafkaConfig, topics: tuple[str, str], runner: Runner
) -> None:
    source, out = topics
    stage = Numbering(config, out, slices_count=5)
    produce(config, source, [(0, b"1"), (1, b"1")])
    runner.start(stage)
    wait_until(lambda: len(read_committed(config, out)) >= 7, "inputs and slices")
    produce(config, source, [(0, b"2")])
    wait_until(lambda: len(read_committed(config, out)) >= 8, "the next input")
    runner.stop_all()
    assert numbers(config, out) == {0: list(range(1, 8)), 1: [1]}
