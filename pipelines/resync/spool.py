"""A repository on its way from its host to Kafka: proven, cut into chunks, and kept on the disk.

    feed a piece of the CAR → proven records → chunks, as they will be messages → spool

Nothing of it counts before the whole repository is proven, and it may be of any size; so it waits
in a nameless temporary file, which the operating system removes by itself. Small ones stay in
memory. How much may wait in all is bounded (`Spool`).

No clock and no network. A repository is for one thread at a time.
"""

import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from pipelines.atproto.errors import CarError, Reason
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.repo import Limits, RepoReader, RepoRecord, VerifiedRepo
from pipelines.atproto.syntax import Did
from pipelines.repair.chunks import CHUNK_BYTES, encode_chunk, encode_record

# Of one repository; most are smaller, and never touch the disk.
MEMORY_BYTES: Final = 1024 * 1024


class SpoolError(Exception):
    """The disk that repositories wait on is full or broken; nothing of a host's doing."""


class Spool:
    """Where repositories wait, and how much of them there is.

    Attributes:
        used_bytes: what waits now.
        limit_bytes: from how much on nothing more is fetched.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """Starts empty.

        Args:
            folder: on the disk to use; made if missing.
            limit_bytes: from how much on nothing more is fetched. What is being fetched then may
                still come, up to as much of each repository.

        Raises:
            SpoolError: the folder cannot be made.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpoolError(f"cannot make {folder}: {error.strerror}") from None
        self.used_bytes = 0
        self.limit_bytes = limit_bytes
        self._folder = folder
        self._lock = threading.Lock()

    @property
    def has_room(self) -> bool:
        """Whether more may be fetched."""
        return self.used_bytes < self.limit_bytes

    def open(self) -> "SpoolFile":
        """Returns a new file."""
        return SpoolFile(self, self._folder)

    def add(self, size_bytes: int) -> None:
        """Notes that there is more, or less."""
        with self._lock:
            self.used_bytes += size_bytes


class SpoolFile:
    """Chunks, first written one after the other, then read from the first on.

    Attributes:
        size_bytes: of all of them.
    """

    def __init__(self, spool: Spool, folder: Path) -> None:
        self._spool = spool
        self._sizes: list[int] = []
        self.size_bytes = 0
        self._digest = sha256()
        # `close` closes it.
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            max_size=MEMORY_BYTES, dir=str(folder)
        )

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return len(self._sizes)

    @property
    def digest(self) -> str:
        """SHA-256 over the chunks one after the other, in hexadecimal."""
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Appends a chunk.

        Raises:
            CarError: this repository alone would fill the spool (`car.too_large`).
            SpoolError: the disk is full or broken.
        """
        if self.size_bytes + len(chunk) > self._spool.limit_bytes:
            raise CarError(
                Reason.CAR_TOO_LARGE, f"more than {self._spool.limit_bytes} bytes of chunks"
            )
        try:
            self._file.write(chunk)
        except OSError as error:
            raise SpoolError(f"cannot keep a repository: {error.strerror}") from None
        self._sizes.append(len(chunk))
        self._digest.update(chunk)
        self.size_bytes += len(chunk)
        self._spool.add(len(chunk))

    def read(self) -> Iterator[bytes]:
        """Yields the chunks.

        Raises:
            SpoolError: the disk is broken.
        """
        try:
            self._file.seek(0)
            for size in self._sizes:
                yield self._file.read(size)
        except OSError as error:
            raise SpoolError(f"cannot read a repository again: {error.strerror}") from None

    def close(self) -> None:
        """Lets go of everything; again, of nothing."""
        with suppress(OSError):  # what could not be written before
            self._file.close()
        self._spool.add(-self.size_bytes)
        self.size_bytes = 0


@dataclass(frozen=True, slots=True)
class Spooled:
    """A proven repository that waits.

    Attributes:
        verified: what was proven.
        file: its chunks; whoever has this closes it.
    """

    verified: VerifiedRepo
    file: SpoolFile


class Proof:
    """Proves a repository while it arrives, and spools it.

    A context manager, which lets go of everything unless `finish` gave it away.

    Attributes:
        is_given_up: set by whoever does not want it any more while another thread works on it.
    """

    def __init__(self, did: Did, signing_key: VerifyingKey, spool: Spool, limits: Limits) -> None:
        """Starts before the first byte.

        Args:
            did: whose repository it has to be.
            signing_key: the account's.
            spool: where it waits.
            limits: what it may cost.
        """
        self.is_given_up = False
        self._did = did
        self._reader = RepoReader(signing_key, did=did, limits=limits)
        self._file: SpoolFile | None = spool.open()
        self._records: list[bytes] = []
        self._size_bytes = 0

    def __enter__(self) -> Self:
        self._reader.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.__exit__(kind, error, trace)
        if self._file is not None:
            self._file.close()

    def feed(self, piece: bytes) -> None:
        """Takes the next bytes of the CAR.

        Raises:
            ProtocolError: it is bad, or passes a limit.
            SpoolError: it cannot be kept.
        """
        try:
            self._write(self._reader.feed(piece))
        except OSError as error:
            raise SpoolError(f"cannot keep a CAR: {error.strerror}") from None

    def finish(self) -> Spooled:
        """Proves what is left when the CAR has ended.

        Raises:
            ProtocolError: it is bad, incomplete, or passes a limit.
            SpoolError: it cannot be kept.
        """
        try:
            self._write(self._reader.finish())
        except OSError as error:
            raise SpoolError(f"cannot keep a CAR: {error.strerror}") from None
        if self._records:
            self._close_chunk()
        assert self._file is not None
        spooled = Spooled(self._reader.verified, self._file)
        self._file = None
        return spooled

    def _write(self, records: Iterable[RepoRecord]) -> None:
        for path, cid, block in records:
            if self.is_given_up:
                raise SpoolError("nobody wants it any more")
            collection, _, rkey = path.partition("/")
            record = encode_record(collection, rkey, cid, block)
            self._records.append(record)
            self._size_bytes += len(record)
            if self._size_bytes >= CHUNK_BYTES:
                self._close_chunk()

    def _close_chunk(self) -> None:
        commit, file = self._reader.commit, self._file
        assert commit is not None
        assert file is not None
        file.write(encode_chunk(self._did, commit.rev, file.count, self._records))
        self._records.clear()
        self._size_bytes = 0
