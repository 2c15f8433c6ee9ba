"""A whole repository, proven while its CAR arrives.

    for record in (stream := stream_repo(file, signing_key)):
        …                            # proven to be in the repository
    stream.verified                  # and now: these were all, and nothing is missing

The signature is checked first, then the tree is walked from the signed root in the order of its
paths. Where the blocks of the CAR come in just that order (a "streamable" CAR), each is used as it
arrives and forgotten: memory does not grow with the repository. Hardly any server writes such
CARs, so everything is also kept aside in a spill file, up to a limit. At the first block out of
order, the rest of the CAR is only collected and indexed; then the walk goes on from the spill.

Order, repetition and surplus of blocks therefore change the way, never the result.

Source: draft-holmgren-at-repository "Repository Import Validation", "Block Ordering";
atproto.com/specs/repository "CAR File Serialization". spec: C-01…C-12, B-01…B-46, M-01…M-08.

Always checked: the hash of every block, also of those that nothing refers to; the commit object
and its signature; every rule of every node of the tree; that every node and record is there; the
syntax of every path; the size of every record.
Checked where it is given: the DID.
Not checked: whether the key is the right one and the revision the latest (the caller's choice),
the data model inside records (`pipelines.atproto.atjson`).
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from pipelines.atproto.car import CarSource, pieces_of
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.repo_reader import (
    DEFAULT_LIMITS,
    Limits,
    RepoReader,
    RepoRecord,
    VerifiedRepo,
)
from pipelines.atproto.syntax import Did

__all__ = [
    "DEFAULT_LIMITS",
    "AsyncRepoStream",
    "Limits",
    "RepoReader",
    "RepoRecord",
    "RepoStream",
    "VerifiedRepo",
    "stream_repo",
    "stream_repo_async",
    "verify_repo",
    "verify_repo_async",
]


def verify_repo(
    car: CarSource,
    signing_key: VerifyingKey,
    *,
    did: Did | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> VerifiedRepo:
    """Proves a whole repository; `stream_repo` also gives its records.

    Args:
        car: the CAR: its bytes, a file open for reading, or its pieces in order.
        signing_key: of the account.
        did: the account, if the commit is to be of a certain one.
        limits: what it may cost.

    Raises:
        ProtocolError: any of the checks in the module's docstring fails, or a limit is passed
            (`car.too_large`).
        OSError: the source or the spill file fails.
    """
    stream = stream_repo(car, signing_key, did=did, limits=limits)
    for _ in stream:
        pass
    return stream.verified


async def verify_repo_async(
    car: AsyncIterable[bytes],
    signing_key: VerifyingKey,
    *,
    did: Did | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> VerifiedRepo:
    """Proves a whole repository whose pieces arrive one by one, as `verify_repo`.

    The work itself is done in between, and does not wait: a large repository is better proven in
    a thread where others wait for the same event loop.
    """
    stream = stream_repo_async(car, signing_key, did=did, limits=limits)
    async for _ in stream:
        pass
    return stream.verified


def stream_repo(
    car: CarSource,
    signing_key: VerifyingKey,
    *,
    did: Did | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> "RepoStream":
    """Proves a whole repository and gives its records meanwhile, as `verify_repo`.

    Returns:
        The records, in ascending order of their paths' bytes; to be read once. Each is proven to
        be in the repository when it comes. That there are no others, and that the repository is
        whole, is known at the end.
    """
    return RepoStream(car, RepoReader(signing_key, did=did, limits=limits))


def stream_repo_async(
    car: AsyncIterable[bytes],
    signing_key: VerifyingKey,
    *,
    did: Did | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> "AsyncRepoStream":
    """Proves a repository whose pieces arrive one by one, as `stream_repo`."""
    return AsyncRepoStream(car, RepoReader(signing_key, did=did, limits=limits))


class RepoStream(Iterable[RepoRecord]):
    """The records of a repository while it is being proven."""

    def __init__(self, car: CarSource, reader: RepoReader) -> None:
        self._reader = reader
        self._records = _read(car, reader)

    def __iter__(self) -> Iterator[RepoRecord]:
        return self._records

    @property
    def verified(self) -> VerifiedRepo:
        """The proven repository; RuntimeError before the last record was read."""
        return self._reader.verified


class AsyncRepoStream(AsyncIterable[RepoRecord]):
    """The records of a repository while it arrives and is being proven."""

    def __init__(self, car: AsyncIterable[bytes], reader: RepoReader) -> None:
        self._reader = reader
        self._records = _read_async(car, reader)

    def __aiter__(self) -> AsyncIterator[RepoRecord]:
        return self._records

    @property
    def verified(self) -> VerifiedRepo:
        """The proven repository; RuntimeError before the last record was read."""
        return self._reader.verified


# Without a reference to the stream: who leaves one half read lets go of its spill at once.
def _read(car: CarSource, reader: RepoReader) -> Iterator[RepoRecord]:
    with reader:
        for piece in pieces_of(car):
            yield from reader.feed(piece)
        yield from reader.finish()


async def _read_async(car: AsyncIterable[bytes], reader: RepoReader) -> AsyncIterator[RepoRecord]:
    with reader:
        async for piece in car:
            for record in reader.feed(piece):
                yield record
        for record in reader.finish():
            yield record
