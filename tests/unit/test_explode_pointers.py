"""Pointers of the topic `parked`: to messages and back."""

from pathlib import Path

import orjson
import pytest
from support.identities import ALICE

from pipelines.explode.pointers import (
    MAX_DETAIL_LENGTH,
    Pointer,
    done_message,
    parked_message,
    parse_pointer,
    pointer_to,
)
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.topics import registry, validator

EXAMPLES = sorted((Path(__file__).parents[2] / "schemas/examples/parked/v1").iterdir())
FRAME = InputMessage(
    "frames",
    2,
    8123,
    1_790_000_000_000,
    ALICE.encode(),
    b"frame",
    [
        ("host", b"relay.example"),
        ("seq", b"17"),
        ("kind", b"commit"),
        ("received_us", b"1790000000000123"),
    ],
)


@pytest.mark.parametrize("detail", [None, "the directory is away", "x" * 10_000])
def test_a_pointer_comes_back_and_fits_its_schema(detail: str | None) -> None:
    pointer = pointer_to(FRAME, ALICE, 1_790_000_003_000_000, detail)
    message = parked_message(pointer, "parked")
    assert message.value is not None
    validator("parked", 1).validate(orjson.loads(message.value))
    assert parse_pointer(message.value) == pointer
    assert (pointer.detail is None) == (detail is None)
    assert len(pointer.detail or "") <= MAX_DETAIL_LENGTH


def test_a_frame_is_parked_and_released_under_one_key_in_its_own_partition() -> None:
    pointer = pointer_to(FRAME, ALICE, 0, None)
    parked, done = parked_message(pointer, "parked"), done_message(pointer, "parked")
    assert parked.key == done.key == f"{ALICE}/8123".encode()
    assert parked.partition == done.partition == FRAME.partition
    assert done.value is None
    assert parked.timestamp_ms == FRAME.timestamp_ms
    names = [header.name for header in registry().specs["parked"].headers]
    assert [name for name, _ in parked.headers] == names


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_pointers(example: Path) -> None:
    pointer = parse_pointer(example.read_bytes())
    message = parked_message(pointer, "parked")
    assert orjson.loads(message.value or b"") == orjson.loads(example.read_bytes())


@pytest.mark.parametrize(
    ("kind", "needs_key"),
    [
        ("commit", True),
        ("sync", True),
        ("unknown", False),
        ("identity", False),
        ("account", False),
    ],
)
def test_only_what_is_signed_needs_a_key(kind: str, *, needs_key: bool) -> None:
    assert pointer_to(FRAME, ALICE, 0, None)._replace(kind=kind).needs_key is needs_key


def test_a_message_of_another_shape_is_a_defect() -> None:
    fields = pointer_to(FRAME, ALICE, 0, None)._asdict()
    del fields["seq"]
    with pytest.raises(ValueError, match="version 1"):
        parse_pointer(orjson.dumps(fields))
    assert Pointer._fields == tuple(orjson.loads(EXAMPLES[0].read_bytes()))
