"""The record type for Faust applications: every value of the contract, and of real records."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.admissions import NOBODY
from support.recordings import load_recording
from support.records import record_examples

from pipelines.analytics.records import Record
from pipelines.explode.outputs import OutputTopics, outputs_of
from pipelines.explode.sources import Source
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.topics import validator
from pipelines.verdict import judge_frame

EXAMPLES = record_examples()


def fields_of(record: Record) -> dict[str, Any]:
    return dict(record.asdict())


def test_the_fields_are_those_of_the_contract() -> None:
    schema = validator("records", 1).schema
    assert isinstance(schema, dict)
    assert list(Record.__annotations__) == schema["required"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_comes_back_as_it_was(name: str) -> None:
    value = EXAMPLES[name]
    record = Record.loads(json.dumps(value).encode())
    assert fields_of(record) == value
    assert json.loads(record.dumps()) == value


def test_the_examples_have_what_is_odd() -> None:
    records = [Record.loads(json.dumps(value).encode()) for value in EXAMPLES.values()]
    assert {record.operation for record in records} == {"create", "update", "delete"}
    assert any(record.record is None and record.record_error for record in records)


def test_fields_of_a_newer_version_do_no_harm() -> None:
    value = EXAMPLES["create-like"] | {"proof": {"depth": 3}}
    record = Record.loads(json.dumps(value).encode())
    assert record.uri == value["uri"]
    assert fields_of(record) == EXAMPLES["create-like"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"langs": 7, "self": 1, "cls": 2, "record": None, "": "\u0000"},
        {"n": 2**63 - 1, "m": -(2**63)},
        # Faust's own mark for "this is of that type", which must not be obeyed here.
        {"__faust": {"ns": "pipelines.analytics.records.Record"}},
        {"a": [{"__faust": {"ns": "os.system"}}], "__strict__": True},
    ],
)
def test_what_users_write_stays_plain_data(body: dict[str, Any]) -> None:
    value = EXAMPLES["create-like"] | {"record": body}
    record = Record.loads(json.dumps(value).encode())
    assert type(record.record) is dict
    assert record.record == body


def test_every_record_of_a_recorded_network_comes_back_as_it_was(capture_folder: Path) -> None:
    recording = load_recording(capture_folder)
    topics = OutputTopics("events", "quarantine", "identities", "parked", "records", {}, NOBODY)
    seen_count = 0
    for offset, frame in enumerate(recording.frames):
        received_us = 1_795_360_000_000_000  # after the recording
        message = InputMessage("frames", 0, offset, received_us // 1000, None, frame, [])
        verdict = judge_frame(frame, recording.keys, received_us)
        for output in outputs_of(verdict, Source("relay.example", received_us, message), topics):
            if output.topic == "records" and output.value is not None:
                assert fields_of(Record.loads(output.value)) == orjson.loads(output.value)
                seen_count += 1
    assert seen_count > 300
