"""Reading messages by their offsets, single ones or rows, from a real broker."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Message
from support.kafka import create_topic, delete_before, produce

from pipelines.config import KafkaConfig
from pipelines.errors import TopicShortError
from pipelines.kafka import rereading
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.reading import input_message
from pipelines.kafka.rereading import SKIPPED_COUNT, OffsetReader, RowReader

pytestmark = pytest.mark.broker

COUNT = 4 * SKIPPED_COUNT
LONG_S = 60.0


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    return KafkaConfig(kafka, topic_prefix)


@pytest.fixture
def topic(config: KafkaConfig) -> str:
    topic = create_topic(config, "numbers", 2)
    produce(config, topic, [(1, b"%d" % number) for number in range(COUNT)])
    return topic


def read(
    config: KafkaConfig, topic: str, offsets: list[int], budget_s: float = LONG_S
) -> dict[int, bytes | None]:
    reader = OffsetReader(config, topic)
    try:
        found = reader.read(1, offsets, budget_s)
    finally:
        reader.close()
    for offset, message in found.items():
        assert message is None or (message.partition, message.offset) == (1, offset)
    return {
        offset: None if message is None else message.value for offset, message in found.items()
    }


def test_messages_near_and_far_apart_are_read(config: KafkaConfig, topic: str) -> None:
    offsets = [0, 1, 7, SKIPPED_COUNT, 3 * SKIPPED_COUNT, COUNT - 1]
    assert read(config, topic, offsets) == {offset: b"%d" % offset for offset in offsets}


def test_what_was_deleted_is_said_to_be_gone(config: KafkaConfig, topic: str) -> None:
    delete_before(config, topic, {1: 20})
    offsets = [3, 18, 20, 21, COUNT - 1]
    expected = {3: None, 18: None, 20: b"20", 21: b"21", COUNT - 1: b"%d" % (COUNT - 1)}
    assert read(config, topic, offsets) == expected


def test_of_a_topic_that_was_emptied_everything_is_gone(config: KafkaConfig, topic: str) -> None:
    delete_before(config, topic, {1: COUNT})
    offsets = [3, 4, 2 * SKIPPED_COUNT, COUNT - 1]
    assert read(config, topic, offsets) == dict.fromkeys(offsets)


def test_what_is_behind_the_end_is_not_said_to_be_gone(config: KafkaConfig, topic: str) -> None:
    assert read(config, topic, [COUNT - 1, COUNT]) == {COUNT - 1: b"%d" % (COUNT - 1)}
    with pytest.raises(TopicShortError, match=f"ends before offset {COUNT}, where"):
        read(config, topic, [COUNT])
    delete_before(config, topic, {1: COUNT})
    assert read(config, topic, [3, COUNT]) == {3: None}


def test_a_topic_that_has_become_shorter_is_not_read_from_its_beginning(
    config: KafkaConfig, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a loss of data, or if it was deleted and made anew."""
    polled = []

    def note(message: Message) -> InputMessage:
        polled.append(message.offset())
        return input_message(message)

    monkeypatch.setattr(rereading, "input_message", note)
    with pytest.raises(TopicShortError, match=f"ends before offset {10 * COUNT}, where"):
        read(config, topic, [10 * COUNT, 11 * COUNT])
    assert read(config, topic, [7, 10 * COUNT]) == {7: b"7"}
    assert polled == [0, 7, 0]


def test_without_time_one_message_is_read(config: KafkaConfig, topic: str) -> None:
    assert read(config, topic, [5, 6], budget_s=0.0) == {5: b"5"}


def test_a_reader_can_be_used_again_in_any_direction(config: KafkaConfig, topic: str) -> None:
    reader = OffsetReader(config, topic)
    try:
        for offset in (9, 150, 2):
            found = reader.read(1, [offset], LONG_S)[offset]
            assert found is not None
            assert found.value == b"%d" % offset
    finally:
        reader.close()


# --- rows


@pytest.fixture
def rows(config: KafkaConfig, topic: str) -> Iterator[RowReader]:
    rows = RowReader(config, topic, fetch_bytes=64 * 1024, timeout_s=LONG_S)
    yield rows
    rows.close()


def read_row(rows: RowReader, offset: int, end: int) -> list[bytes | None]:
    values = []
    while (message := rows.next(1, offset, end)) is not None:
        values.append(message.value)
        offset = message.offset + 1
    return values


def test_rows_are_read_to_their_end_wherever_they_begin(rows: RowReader) -> None:
    for start, end in ((0, COUNT), (7, 20), (7, 8), (COUNT - 2, COUNT), (5, 5)):
        assert read_row(rows, start, end) == [b"%d" % number for number in range(start, end)]
        rows.rest()
    assert read_row(rows, 3, 5) == [b"3", b"4"]


def test_of_a_row_what_was_deleted_is_left_out(
    config: KafkaConfig, topic: str, rows: RowReader
) -> None:
    delete_before(config, topic, {1: 20})
    assert read_row(rows, 15, 22) == [b"20", b"21"]
    assert read_row(rows, 10, 20) == []
    delete_before(config, topic, {1: COUNT})
    assert read_row(rows, 15, COUNT) == []


def test_a_row_that_the_topic_does_not_have_yet_is_waited_for(rows: RowReader) -> None:
    for start in (COUNT - 1, COUNT, COUNT + 5):
        with pytest.raises(TopicShortError, match=f"ends before offset {COUNT + 9}"):
            read_row(rows, start, COUNT + 9)
