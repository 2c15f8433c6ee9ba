"""Which gaps are still to be answered."""

from support.crawl import NOW_US, gap_message

from pipelines.config import KafkaConfig
from pipelines.crawl.sweep import Due, due_after
from pipelines.kafka.messages import InputMessage, OutputMessage


def _read(messages: list[OutputMessage]) -> list[InputMessage]:
    return [
        InputMessage(m.topic, m.partition, offset, m.timestamp_ms, m.key, m.value, m.headers)
        for offset, m in enumerate(messages)
    ]


def test_gaps_of_an_upstream_are_answered_together_and_once() -> None:
    config = KafkaConfig()
    times = ["2026-09-21T14:13:20Z", None, "2026-09-21T14:13:19Z", "no time"]
    messages = [gap_message(config, "a.example", time) for time in times]
    messages.insert(2, gap_message(config, "b.example", None))
    found = _read(messages)
    assert due_after({}, found, {}) == {
        "a.example": Due(5, NOW_US - 1_000_000),
        "b.example": Due(3, None),
    }
    first = due_after({}, found[:2], {})
    assert due_after(first, found[2:], {}) == due_after({}, found, {})
    assert due_after({}, found, {"a.example": 5}) == {"b.example": Due(3, None)}
    assert due_after({}, found, {"a.example": 4, "b.example": 3}) == {"a.example": Due(5, None)}
