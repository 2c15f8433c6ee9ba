"""Which repositories an upstream has listed so far, as `listings` has it. Pure.

That a repository is no longer listed is known only to who knows the whole list. So that a sweep
can go on in the middle of one, what the pages before had is in Kafka, with how far it was read. A
repository is a few bytes of a hash there: accounts as such may be long, and a list of the network
names fifty million.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any, Final

import orjson

from pipelines.atproto.syntax import Did
from pipelines.crawl.progress import Answer
from pipelines.kafka.messages import OutputMessage

TOPIC: Final = "listings"
# The first of a SHA-256. That two accounts of fifty million have the same ones is as likely as one
# in four million; then one that went could go unnoticed. Twelve characters of base64, without any
# filling, so that those of many follow each other.
FINGERPRINT_BYTES: Final = 9
# 240 kB: a message must stay far below what a topic takes.
MAX_FINGERPRINTS_COUNT: Final = 20_000


def fingerprint(did: Did) -> bytes:
    """Returns what stands for an account: `FINGERPRINT_BYTES` bytes."""
    return hashlib.sha256(did.encode()).digest()[:FINGERPRINT_BYTES]


def listed_messages(
    answer: Answer, fingerprints: Sequence[bytes], topic: str, now_ms: int
) -> list[OutputMessage]:
    """Returns the messages that say what was listed.

    Args:
        answer: whose list it is, and when reading it began.
        fingerprints: of what was listed; any number.
        topic: physical name of `listings`.
        now_ms: the time of day, milliseconds since the epoch.
    """
    return [
        OutputMessage(
            topic,
            0,
            answer.host.encode(),
            orjson.dumps(
                {
                    "host": answer.host,
                    "listed_us": answer.listed_us,
                    "fingerprints": base64.b64encode(b"".join(part)).decode(),
                }
            ),
            [],
            now_ms,
        )
        for start in range(0, len(fingerprints), MAX_FINGERPRINTS_COUNT)
        if (part := fingerprints[start : start + MAX_FINGERPRINTS_COUNT])
    ]


def parse_listed(value: bytes, answer: Answer) -> list[bytes]:
    """Takes a value of `listings` apart.

    Args:
        value: as `listed_messages` writes it.
        answer: whose list is wanted, and since when.

    Returns:
        The fingerprints; none if it is of another list.

    Raises:
        ValueError: it is of another shape, which a newer version may have written.
    """
    found: Any = orjson.loads(value)
    match found:
        case {"host": str(host), "listed_us": int(listed_us), "fingerprints": str(text)}:
            if (host, listed_us) != (answer.host, answer.listed_us):
                return []
            marks = base64.b64decode(text, validate=True)
            return [
                marks[start : start + FINGERPRINT_BYTES]
                for start in range(0, len(marks), FINGERPRINT_BYTES)
            ]
    raise ValueError("not a JSON object with host, listed_us and fingerprints")
