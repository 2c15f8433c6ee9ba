"""What is told of the message in Kafka around a frame that is inspected."""

import pytest

from pipelines.inspection.messages import message_section, received_us
from pipelines.kafka.messages import InputMessage


def message(received: bytes) -> InputMessage:
    headers = [("host", b"a.example"), ("received_us", received)]
    return InputMessage("frames", 0, 7, 1, b"did:web:a.example", b"", headers)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"1767225600000000", 1_767_225_600_000_000),
        (b"9" * 18, 10**18 - 1),
        (b"9" * 19, None),
        (b"9" * 5_000, None),  # Python itself refuses to read so many digits
        (b"", None),
        (b"-1", None),
        (b"1.5", None),
        ("\u0661".encode(), None),  # a digit, but not one of ours
    ],
)
def test_a_time_of_arrival_is_one_or_none(header: bytes, expected: int | None) -> None:
    assert received_us(message(header)) == expected


def test_without_message_or_header_there_is_no_time_of_arrival() -> None:
    assert received_us(None) is None
    assert received_us(message(b"1")._replace(headers=[("host", b"received_us")])) is None


def test_every_header_is_shown_as_it_is() -> None:
    facts = {fact.name: fact.value for fact in message_section(message(b"\xff")).facts}
    assert facts["header host"] == "a.example"
    assert facts["header received_us"] == "ff"
    assert (facts["partition"], facts["offset"]) == (0, 7)
