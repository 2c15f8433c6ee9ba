"""The message of the topic `status`, to bytes and back."""

import dataclasses
import json
from pathlib import Path

import pytest

from pipelines.atproto.errors import Reason
from pipelines.kafka.beat import MAX_DETAIL_LENGTH, Beat, Report, State, encode_beat, parse_beat
from pipelines.kafka.topics import validator

EXAMPLES = sorted((Path(__file__).parents[2] / "schemas/examples/status/v1").iterdir())
REPORT = Report(State.WAITING, "for rain", {"inputs": 3}, {"refused": {"frame.op": 1}})
BEAT = Beat("explode", "0", "worker-1", 17, 1_790_000_000_000_000, 1_790_000_001_000_000, REPORT)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_comes_back_as_it_was(file: Path) -> None:
    value = json.loads(file.read_text(encoding="utf-8"))
    assert json.loads(encode_beat(parse_beat(file.read_bytes()))) == value


def test_a_beat_is_as_the_schema_says_and_comes_back() -> None:
    value = encode_beat(BEAT)
    validator("status", 1).validate(json.loads(value))
    assert parse_beat(value) == BEAT
    assert BEAT.key == b"explode.0"


def test_a_member_may_be_of_an_enumeration() -> None:
    report = dataclasses.replace(REPORT, groups={"refused": {Reason.FRAME_OP: 1}})
    assert encode_beat(dataclasses.replace(BEAT, report=report)) == encode_beat(BEAT)


def test_a_long_detail_is_cut() -> None:
    report = dataclasses.replace(REPORT, detail="x" * 10_000)
    value = encode_beat(dataclasses.replace(BEAT, report=report))
    validator("status", 1).validate(json.loads(value))
    assert parse_beat(value).report.detail == "x" * MAX_DETAIL_LENGTH


def test_fields_of_a_newer_version_are_ignored() -> None:
    value = json.loads(encode_beat(BEAT))
    assert parse_beat(json.dumps(value | {"colour": "blue"}).encode()) == BEAT


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"[]", b"7", b"null", b"{}", encode_beat(BEAT).replace(b"waiting", b"dancing")],
)
def test_anything_else_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_beat(value)
