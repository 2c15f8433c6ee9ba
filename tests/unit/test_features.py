"""The request for a broker's features and its answer, against bytes laid out by hand.

Source: Kafka's protocol guide, ApiVersions version 3.
"""

import random
import socket
import threading

import pytest

from pipelines.kafka.features import (
    MAX_ANSWER_BYTES,
    features_request,
    metadata_version,
    parse_features,
)

_NO_TAGS = b"\x00"
_APIS = (
    b"\x03" + (b"\x00\x00\x00\x00\x00\x0d" + _NO_TAGS) + (b"\x00\x12\x00\x00\x00\x04" + _NO_TAGS)
)
_FEATURES = (
    b"\x03"  # two of them
    + (b"\x0egroup.version" + b"\x00\x00" + b"\x00\x01" + _NO_TAGS)
    + (b"\x11metadata.version" + b"\x00\x07" + b"\x00\x1d" + _NO_TAGS)
)
_ANSWER = (
    b"\x00\x00\x00\x01"  # correlation id
    b"\x00\x00"  # no error
    + _APIS
    + b"\x00\x00\x00\x00"  # throttle time
    + b"\x02"  # two tagged fields: supported features, and their epoch
    + (b"\x00" + bytes([len(_FEATURES)]) + _FEATURES)
    + (b"\x01\x08" + b"\x00\x00\x00\x00\x00\x00\x00\x2a")
)


def test_the_request_is_laid_out_as_the_protocol_says() -> None:
    assert features_request("abc") == (
        b"\x00\x00\x00\x17"  # length
        b"\x00\x12\x00\x03"  # ApiVersions, version 3
        b"\x00\x00\x00\x01"  # correlation id
        b"\x00\x03abc\x00"  # client id, no tags
        b"\x04abc\x04abc\x00"  # name and version of the client software, no tags
    )


def test_the_answer_names_the_highest_version_of_each_feature() -> None:
    assert parse_features(_ANSWER) == {"group.version": 1, "metadata.version": 29}


def test_an_answer_without_features_has_none() -> None:
    assert parse_features(b"\x00\x00\x00\x01\x00\x00" + _APIS + b"\x00\x00\x00\x00\x00") == {}


def test_an_answer_that_is_cut_off_is_told_apart() -> None:
    end = _ANSWER.index(_FEATURES) + len(_FEATURES)
    for length in range(end):
        with pytest.raises(ValueError, match="cut off"):
            parse_features(_ANSWER[:length])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\x00\x00\x00\x02" + _ANSWER[4:], "another request"),
        (b"\x00\x00\x00\x01\x00\x23", "error 35"),
    ],
)
def test_another_answer_is_told_apart(answer: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_features(answer)


def test_any_bytes_are_read_or_refused() -> None:
    rng = random.Random(7)
    refused_count = 0
    for _ in range(3_000):
        answer = bytearray(_ANSWER)
        for _ in range(rng.randrange(1, 4)):
            answer[rng.randrange(len(answer))] = rng.randrange(256)
        try:
            parse_features(bytes(answer))
        except ValueError:
            refused_count += 1
    assert 0 < refused_count < 3_000


def _answer_once(answer: bytes) -> int:
    """Returns a port on which somebody answers a single request."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(1024)
            connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def test_a_broker_is_asked_and_understood() -> None:
    port = _answer_once(len(_ANSWER).to_bytes(4, "big") + _ANSWER)
    assert metadata_version("127.0.0.1", port) == 29


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xff\xff\xff",
        (MAX_ANSWER_BYTES + 1).to_bytes(4, "big"),
    ],
    ids=["nothing", "cut-off", "http", "negative", "endless"],
)
def test_somebody_else_is_told_apart(answer: bytes) -> None:
    with pytest.raises(ValueError, match="no Kafka broker"):
        metadata_version("127.0.0.1", _answer_once(answer))
