"""What a broker can do, asked for without a client library: its highest metadata version.

A broker does not tell its own version. It tells which features it supports, and `metadata.version`
grows with the releases. The client library reads that answer and does not pass it on. The request
is answered before any authentication.

Source: Kafka's protocol guide, ApiVersions version 3; KIP-482 (tagged fields), KIP-584 (features).
"""

import socket
import struct
from typing import Final

API_VERSIONS: Final = 18
VERSION: Final = 3
METADATA_FEATURE: Final = "metadata.version"
TIMEOUT_S: Final = 5.0
# A real answer has less than 2 kB.
MAX_ANSWER_BYTES: Final = 64 * 1024

_CORRELATION_ID: Final = 1
_SUPPORTED_FEATURES: Final = 0  # tag of the field


class _Reader:
    """Reads an answer from its beginning on; `IndexError` where it is cut off."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def skip(self, count: int) -> None:
        self.take(count)

    def take(self, count: int) -> bytes:
        taken = self._raw[self._at : self._at + count]
        if len(taken) < count:
            raise IndexError
        self._at += count
        return taken

    def number(self, form: str) -> int:
        number: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return number

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def skip_tags(self) -> None:
        for _ in range(self.varint()):
            self.varint()
            self.skip(self.varint())


def features_request(client: str) -> bytes:
    """Returns the request, with its length before it.

    Args:
        client: what we call ourselves; ASCII.
    """
    name = client.encode("ascii")
    compact = bytes([len(name) + 1]) + name
    head = struct.pack(">hhih", API_VERSIONS, VERSION, _CORRELATION_ID, len(name)) + name + b"\0"
    body = head + compact + compact + b"\0"
    return struct.pack(">i", len(body)) + body


def parse_features(answer: bytes) -> dict[str, int]:
    """Returns the highest version of each feature that a broker supports.

    Args:
        answer: without its length.

    Raises:
        ValueError: it is no such answer.
    """
    reader = _Reader(answer)
    try:
        if reader.number(">i") != _CORRELATION_ID:
            raise ValueError("the answer is to another request")
        if code := reader.number(">h"):
            raise ValueError(f"the broker answers with error {code}")
        for _ in range(reader.varint() - 1):
            reader.skip(6)  # key, lowest and highest version of an API
            reader.skip_tags()
        reader.skip(4)  # throttle time
        for _ in range(reader.varint()):
            tag, size = reader.varint(), reader.varint()
            field = reader.take(size)
            if tag == _SUPPORTED_FEATURES:
                return _features(_Reader(field))
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError("the answer is cut off") from error
    return {}


def _features(reader: _Reader) -> dict[str, int]:
    features = {}
    for _ in range(reader.varint() - 1):
        name = reader.take(reader.varint() - 1).decode()
        reader.skip(2)  # lowest version
        features[name] = reader.number(">h")
        reader.skip_tags()
    return features


def metadata_version(host: str, port: int) -> int:
    """Asks a broker for the highest metadata version that it knows.

    Args:
        host: name or address of a listener without TLS.
        port: its port.

    Raises:
        OSError: nobody answers there within `TIMEOUT_S`.
        ValueError: whoever answers is no Kafka broker, or one before Kafka 3.3.
    """
    with socket.create_connection((host, port), TIMEOUT_S) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.sendall(features_request("standpipe"))
        with connection.makefile("rb") as stream:
            head = stream.read(4)
            size = struct.unpack(">i", head)[0] if len(head) == 4 else -1
            if not 0 <= size <= MAX_ANSWER_BYTES:
                raise ValueError("no Kafka broker answers there")
            features = parse_features(stream.read(size))
    if METADATA_FEATURE not in features:
        raise ValueError(
            f"the broker does not know {METADATA_FEATURE}: it is older than Kafka 3.3"
        )
    return features[METADATA_FEATURE]
