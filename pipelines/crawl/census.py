"""What `repos` says of every repository, on this machine for as long as a crawl lasts.

    k<did>                  what is compared of it (JSON)
    a<fingerprint>          it has been listed in this crawl (`listed.py` has fingerprints)
    l<list><fingerprint>    by this list (the first 8 bytes of the SHA-256 of its name)

The topic is read to its end at the start, which takes some seconds for a million repositories, and
followed from there. Memory is that of `pipelines.rocks`; on disk some 100 bytes a repository.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from itertools import islice
from pathlib import Path
from typing import Final

import orjson
from rocksdict import WriteBatch

from pipelines.atproto.syntax import Did
from pipelines.compact.state import parse_repo
from pipelines.config import KafkaConfig
from pipelines.crawl.candidates import Known, known_of
from pipelines.crawl.listed import fingerprint
from pipelines.kafka.following import Follower
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.reading import log_ends, log_starts, read_between
from pipelines.rocks import open_rocks, put, scan

FORMAT: Final = 1
BATCH_COUNT: Final = 5_000

_KNOWN: Final = b"k"
_LISTED: Final = b"a"
_LISTED_BY: Final = b"l"


class Before(Enum):
    """Who listed a repository before."""

    NOBODY = auto()
    ANOTHER = auto()  # another list
    ITSELF = auto()  # the same list


class Census:
    """What is known of repositories, as of the last `catch_up`. For one thread."""

    def __init__(self, kafka: KafkaConfig, partitions_count: int, folder: Path) -> None:
        """Reads the topic to where it ends now.

        Args:
            kafka: the cluster.
            partitions_count: of `repos`.
            folder: an empty one.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """
        self._rocks, _ = open_rocks(folder, FORMAT, dict)
        self._follower = Follower(kafka)
        wanted = [(kafka.topic("repos"), number) for number in range(partitions_count)]
        ends = log_ends(kafka, wanted, is_readable=True)
        starts = {where: start or 0 for where, start in log_starts(kafka, wanted).items()}
        reading = read_between(kafka, starts, ends)
        while messages := list(islice(reading, BATCH_COUNT)):
            self._take(messages)
        self._follower.assign(ends)

    def close(self) -> None:
        """Closes the store."""
        self._follower.close()
        self._rocks.close()

    def catch_up(self) -> None:
        """Takes in what has come since."""
        while messages := self._follower.poll(BATCH_COUNT):
            self._take(messages)

    def get(self, did: Did) -> Known | None:
        """Returns what is known of a repository."""
        value = self._rocks.get(_KNOWN + did.encode())
        return None if value is None else Known(*orjson.loads(value))

    def mark_listed(self, did: Did, subject: str) -> Before:
        """Notes that a repository was listed; returns who had it before.

        Args:
            did: the repository.
            subject: name of the list.
        """
        mark = fingerprint(did)
        key = _listed_by(subject) + mark
        if self._rocks.get(key) is not None:
            return Before.ITSELF
        self._rocks[key] = b""
        if self._rocks.get(_LISTED + mark) is not None:
            return Before.ANOTHER
        self._rocks[_LISTED + mark] = b""
        return Before.NOBODY

    def mark_all_listed(self, fingerprints: Iterable[bytes], subject: str) -> None:
        """Notes that repositories were listed before, by a list that is read on from there.

        Args:
            fingerprints: of the repositories.
            subject: name of the list.
        """
        batch = WriteBatch(raw_mode=True)
        for mark in fingerprints:
            put(batch, _listed_by(subject) + mark, b"")
            put(batch, _LISTED + mark, b"")
        self._rocks.write(batch)

    def unlisted(self, after: Did | None = None) -> Iterator[tuple[Did, Known]]:
        """Yields the repositories that were not listed, in the order of their DIDs' bytes.

        Args:
            after: only those behind this one.
        """
        start = None if after is None else _KNOWN + after.encode() + b"\0"
        for key, value in scan(self._rocks, _KNOWN, start):
            did = Did(key.removeprefix(_KNOWN).decode())
            if self._rocks.get(_LISTED + fingerprint(did)) is None:
                yield did, Known(*orjson.loads(value))

    def _take(self, messages: Iterable[InputMessage]) -> None:
        batch = WriteBatch(raw_mode=True)
        for message in messages:
            assert message.key is not None
            value = None
            if message.value is not None:
                value = orjson.dumps(tuple(known_of(parse_repo(message.value))))
            put(batch, _KNOWN + message.key, value)
        self._rocks.write(batch)


def _listed_by(subject: str) -> bytes:
    return _LISTED_BY + hashlib.sha256(subject.encode()).digest()[:8]


@contextmanager
def census(kafka: KafkaConfig, partitions_count: int) -> Iterator[Census]:
    """Yields a census that is removed at the end of the block; as `Census`."""
    with tempfile.TemporaryDirectory(prefix="standpipe-crawl-") as folder:
        known = Census(kafka, partitions_count, Path(folder))
        try:
            yield known
        finally:
            known.close()
