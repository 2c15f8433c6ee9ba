"""Reading topics: what a reader does while a partition has no leader."""

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError
from pipelines.kafka import reading
from pipelines.kafka.clients import is_passing
from pipelines.kafka.reading import read_to_end

KAFKA = KafkaConfig(bootstrap_servers="127.0.0.1:1")


class EmptyTopic:
    """A consumer of a topic without messages, that is refused its first questions."""

    def __init__(self, refusals: list[int]) -> None:
        self.refusals = refusals
        self.is_closed = False

    def list_topics(self, topic: str, timeout: float) -> SimpleNamespace:
        assert timeout > 0
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions={0: None})})

    def get_watermark_offsets(self, where: TopicPartition, timeout: float) -> tuple[int, int]:
        assert where.topic == "events"
        assert timeout > 0
        if self.refusals:
            raise KafkaException(KafkaError(self.refusals.pop(0)))
        return 0, 0

    def assign(self, partitions: list[TopicPartition]) -> None:
        assert not partitions

    def close(self) -> None:
        self.is_closed = True


def read_with(consumer: EmptyTopic, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    monkeypatch.setattr(reading, "create_reader", lambda _: consumer)
    monkeypatch.setattr(reading, "RETRY_POLL_S", 0)
    return list(read_to_end(KAFKA, ["events"]))


def test_a_partition_without_a_leader_is_asked_about_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer = EmptyTopic([KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE])
    assert read_with(consumer, monkeypatch) == []
    assert consumer.refusals == []
    assert consumer.is_closed


def test_what_does_not_pass_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = EmptyTopic([KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN])
    with pytest.raises(BrokerUnavailableError, match="events"):
        read_with(consumer, monkeypatch)
    assert consumer.refusals == [KafkaError.UNKNOWN]
    assert consumer.is_closed


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (KafkaError._TRANSPORT, True),
        (KafkaError.NOT_LEADER_FOR_PARTITION, True),
        (KafkaError.COORDINATOR_NOT_AVAILABLE, True),
        (KafkaError._AUTO_OFFSET_RESET, False),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, False),
        (KafkaError.OFFSET_OUT_OF_RANGE, False),
    ],
)
def test_errors_that_end_by_themselves(code: int, *, expected: bool) -> None:
    assert is_passing(KafkaError(code)) is expected


def test_librdkafka_does_not_tell_by_itself() -> None:
    """The reason for a list of our own."""
    assert not KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION).retriable()
