"""Which gaps are still to be answered, and how far a sweep came."""

import json
from dataclasses import replace

import pytest
from support.crawl import NOW_US, gap_message
from support.hosts import did

from pipelines.config import KafkaConfig
from pipelines.crawl.candidates import Judgment
from pipelines.crawl.listed import (
    MAX_FINGERPRINTS_COUNT,
    fingerprint,
    listed_messages,
    parse_listed,
)
from pipelines.crawl.listing import Walk
from pipelines.crawl.progress import (
    Answer,
    Job,
    Progress,
    State,
    Target,
    encode_progress,
    parse_progress,
    parse_target,
)
from pipelines.crawl.sweep import Due, due_after
from pipelines.kafka.messages import InputMessage, OutputMessage
from pipelines.kafka.topics import validator


def _read(messages: list[OutputMessage]) -> list[InputMessage]:
    return [
        InputMessage(m.topic, m.partition, offset, m.timestamp_ms, m.key, m.value, m.headers)
        for offset, m in enumerate(messages)
    ]


def test_what_an_upstream_listed_is_read_as_it_was_written_and_nothing_of_another_sweep() -> None:
    answer = Answer("a.example", 3, None, NOW_US, 7)
    marks = [fingerprint(did(number)) for number in range(MAX_FINGERPRINTS_COUNT + 1)]
    messages = listed_messages(answer, marks, "t.listings", 5)
    assert [len(message.value or b"") < 250_000 for message in messages] == [True, True]
    assert {message.key for message in messages} == {b"a.example"}
    found = [mark for message in messages for mark in parse_listed(message.value or b"", answer)]
    assert found == marks
    for other in (replace(answer, host="b.example"), replace(answer, listed_us=NOW_US + 1)):
        assert parse_listed(messages[0].value or b"", other) == []
    assert listed_messages(answer, [], "t.listings", 5) == []
    with pytest.raises(ValueError, match="fingerprints"):
        parse_listed(b"{}", answer)


def test_how_far_a_list_was_read_is_read_as_it_was_written() -> None:
    answer = Answer("a.example", 3, NOW_US, NOW_US, 7, did(5))
    for found in (None, answer, replace(answer, since_us=None, missed_did=None)):
        target = Target(Job.SWEEP, "repos https://a.example")
        counts = dict.fromkeys(Judgment, 0) | {Judgment.REQUESTED: 2}
        progress = Progress(target, State.DONE, Walk("c", 2), counts, answer=found)
        value = encode_progress(progress, NOW_US)
        validator("crawls", 1).validate(json.loads(value))
        assert parse_progress(value) == progress
        assert parse_target(target.key) == target
    with pytest.raises(ValueError, match="not a valid Job"):
        parse_target(b"other repos https://a.example")


def test_how_far_a_list_was_read_before_sweeps_went_on_can_still_be_read() -> None:
    progress = Progress(Target(Job.SWEEP, "gaps a.example"), State.DONE, Walk("7", 2))
    value = json.loads(encode_progress(progress, NOW_US))
    del value["answer"]
    assert replace(parse_progress(json.dumps(value).encode()), counts={}) == progress


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
