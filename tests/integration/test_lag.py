"""The lag of a group on a real broker: markers, aborted and open transactions, a dead stage."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from confluent_kafka import Producer
from support.kafka import create_topic, produce, wait_until
from support.stages import Copy

from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka.clients import create_producer
from pipelines.kafka.lag import SAMPLE_COUNT, Lag, LagReader
from pipelines.kafka.loop import TransactionalLoop

pytestmark = pytest.mark.broker

PARTITIONS = 2
GROUP = "copy"


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    return KafkaConfig(kafka, topic_prefix)


@pytest.fixture
def source(config: KafkaConfig) -> str:
    return create_topic(config, "in", PARTITIONS, {"message.timestamp.type": "CreateTime"})


@pytest.fixture
def lags(config: KafkaConfig, source: str) -> Iterator[LagReader]:
    with contextlib.closing(LagReader(config, {config.group(GROUP): [source]})) as reader:
        yield reader


@pytest.fixture
def writer(config: KafkaConfig) -> Producer:
    producer = create_producer(config, config.transactional_id("test", "0"))
    producer.init_transactions(30)
    return producer


def work_off(config: KafkaConfig, source: str, count: int) -> None:
    """Runs a stage over the next messages, then ends it."""
    out = create_topic(config, f"out-{time.monotonic_ns()}", PARTITIONS)
    stop = threading.Event()
    loop = TransactionalLoop(
        config,
        stage_name=GROUP,
        slot="0",
        topics=[source],
        stage=Copy(out),
        should_stop=stop.is_set,
    )
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        wait_until(lambda: loop.counts.inputs_count >= count, f"{count} messages are done")
    finally:
        stop.set()
        thread.join(120)
    assert loop.counts.inputs_count == count


def transact(writer: Producer, topic: str, messages: Sequence[tuple[int, int]]) -> None:
    """Writes (partition, timestamp_ms) messages and leaves the transaction open."""
    writer.begin_transaction()
    for partition, timestamp_ms in messages:
        writer.produce(topic, b"x", partition=partition, timestamp=timestamp_ms)
    assert writer.flush(20) == 0


def lag_now(config: KafkaConfig, lags: LagReader) -> Lag:
    return lags.read([config.group(GROUP)])[config.group(GROUP)]


def test_markers_are_no_messages_and_a_stage_that_is_done_has_no_lag(
    config: KafkaConfig, source: str, lags: LagReader, writer: Producer
) -> None:
    now_ms = time.time_ns() // 1_000_000
    for _ in range(5):
        transact(writer, source, [(0, now_ms), (0, now_ms), (1, now_ms)])
        writer.commit_transaction(20)
    lag = lag_now(config, lags)
    assert (lag.messages_count, lag.is_exact) == (15, True)
    work_off(config, source, 15)
    lag = lag_now(config, lags)
    assert (lag.messages_count, lag.is_exact, lag.seconds) == (0, True, 0)


def test_the_lag_of_a_dead_stage_is_the_age_of_what_it_did_not_get_to(
    config: KafkaConfig, source: str, lags: LagReader, writer: Producer
) -> None:
    hour_ms = 3_600_000
    now_ms = time.time_ns() // 1_000_000
    transact(writer, source, [(0, now_ms - 9 * hour_ms), (1, now_ms - 9 * hour_ms)])
    writer.commit_transaction(20)
    work_off(config, source, 2)
    transact(writer, source, [(1, now_ms - 2 * hour_ms), (1, now_ms - 5 * hour_ms)])
    writer.commit_transaction(20)
    lag = lag_now(config, lags)
    assert lag.messages_count == 2
    assert 7_200 <= lag.seconds < 9_000


def test_aborted_and_open_transactions_do_not_count(
    config: KafkaConfig, source: str, lags: LagReader, writer: Producer
) -> None:
    now_ms = time.time_ns() // 1_000_000
    transact(writer, source, [(0, now_ms)] * 10)
    writer.abort_transaction(20)
    assert lag_now(config, lags).messages_count == 0
    transact(writer, source, [(0, now_ms)] * 3)
    assert lag_now(config, lags).messages_count == 0
    writer.commit_transaction(20)
    assert lag_now(config, lags).messages_count == 3


def test_many_messages_are_estimated_from_the_first_ones(
    config: KafkaConfig, source: str, lags: LagReader, writer: Producer
) -> None:
    now_ms = time.time_ns() // 1_000_000
    rounds = SAMPLE_COUNT // 2  # so that partition 1 is counted and partition 0 is not
    for _ in range(rounds):
        transact(writer, source, [(0, now_ms)] * 40 + [(1, now_ms)])
        writer.commit_transaction(20)
    lag = lag_now(config, lags)
    assert not lag.is_exact
    assert abs(lag.messages_count - 41 * rounds) <= rounds


def test_several_groups_have_their_own_lags(config: KafkaConfig, source: str) -> None:
    other = create_topic(config, "other", 1)
    produce(config, source, [(0, b"x"), (1, b"x")])
    produce(config, other, [(0, b"x")] * 5)
    work_off(config, source, 2)
    groups = {config.group(GROUP): [source], config.group("both"): [source, other]}
    with contextlib.closing(LagReader(config, groups)) as reader:
        found = {group: lag.messages_count for group, lag in reader.read(groups).items()}
    assert found == {config.group(GROUP): 0, config.group("both"): 7}


def test_without_a_topic_or_a_broker_a_sentence_says_so(config: KafkaConfig) -> None:
    with (
        contextlib.closing(LagReader(config, {"group": [config.topic("nothing")]})) as reader,
        pytest.raises(BrokerUnavailableError, match="standpipe topics apply"),
    ):
        reader.read(["group"])
