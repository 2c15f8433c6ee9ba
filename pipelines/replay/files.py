"""Writing a replay into one file, or to standard output.

A file grows beside its name, as NAME.part, with its state in NAME.part.state: how far it goes, and
how many bytes that are. It is renamed once it is whole, so that nothing half-written has the name.
A run that was interrupted is gone on with from there: what was written after the last state is cut
off and written again.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

import cramjam

from pipelines.errors import ConfigError
from pipelines.kafka.messages import InputMessage
from pipelines.replay.outputs import OutputError
from pipelines.replay.progress import Progress, encode_progress, parse_progress

# Between two states of a file. Each costs two waits for the disk.
FILE_BLOCK_BYTES: Final = 16 * 1024 * 1024
STREAM_BLOCK_BYTES: Final = 64 * 1024
# As the topics are compressed, but for disks: a third smaller than level 1, at 200 MB/s.
ZSTD_LEVEL: Final = 3

Encode = Callable[[InputMessage], bytes]


class FileOutput:
    """One file. Blocks of a compressed one are zstd frames, which follow each other."""

    block_bytes = FILE_BLOCK_BYTES
    is_prompt = False

    def __init__(self, path: Path, encode: Encode, *, is_compressed: bool) -> None:
        """Touches nothing yet.

        Args:
            path: the file; it must not exist.
            encode: what stands there for a message.
            is_compressed: with zstd.
        """
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._state = path.with_name(f"{path.name}.part.state")
        self._encode = encode
        self._is_compressed = is_compressed
        self._file: BinaryIO | None = None

    def load(self) -> Progress | None:
        """As of `Output`; cuts off what is behind the last state."""
        if self._path.exists():
            raise ConfigError(
                f"{self._path} is there already: name another file, or remove it first"
            )
        try:
            progress = parse_progress(self._state.read_bytes())
            self._file = self._part.open("r+b")
            found_bytes = self._file.seek(0, os.SEEK_END)
            self._file.truncate(progress.size_bytes)
            self._file.seek(progress.size_bytes)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._cannot("go on with", self._part, error) from None
        except ValueError as error:
            raise ConfigError(
                f"{self._state} is {error}: remove it and {self._part.name} to begin anew"
            ) from None
        if found_bytes < progress.size_bytes:
            raise ConfigError(
                f"{self._part} has {found_bytes} bytes, and {self._state.name} knows of "
                f"{progress.size_bytes}: remove both to begin anew"
            )
        return progress

    def begin(self, progress: Progress) -> None:
        """As of `Output`."""
        try:
            self._file = self._part.open("wb")
            self._keep(progress)
        except OSError as error:
            raise self._cannot("write", self._part, error) from None

    def write(self, messages: Sequence[InputMessage], progress: Progress) -> None:
        """As of `Output`."""
        file = self._file
        assert file is not None, "load or begin opens it"
        content: bytes | bytearray = b"".join(map(self._encode, messages))
        if self._is_compressed and content:
            content = bytes(cramjam.zstd.compress(content, level=ZSTD_LEVEL))
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            self._keep(replace(progress, size_bytes=file.tell()))
        except OSError as error:
            raise self._cannot("write", self._part, error) from None

    def finish(self) -> None:
        """As of `Output`."""
        try:
            self._part.rename(self._path)
            self._state.unlink()
        except OSError as error:
            raise self._cannot("name", self._path, error) from None

    def close(self) -> None:
        """As of `Output`."""
        if self._file is not None:
            with suppress(OSError):  # what could not be written was said
                self._file.close()

    def _keep(self, progress: Progress) -> None:
        with writing_whole(self._state) as file:
            file.write(encode_progress(progress))

    def _cannot(self, verb: str, path: Path, error: OSError) -> OutputError:
        remedy = "; make room, and run the same command again to go on where it was"
        return OutputError(f"cannot {verb} {path}: {error.strerror}{remedy}")


class StreamOutput:
    """Standard output, or whatever else takes bytes: nothing is kept of how far it goes."""

    block_bytes = STREAM_BLOCK_BYTES
    is_prompt = True

    def __init__(self, stream: BinaryIO, encode: Encode) -> None:
        """Takes over a stream.

        Args:
            stream: where to.
            encode: what stands there for a message.
        """
        self._stream = stream
        self._encode = encode

    def load(self) -> None:
        """As of `Output`: nobody knows of an earlier run."""

    def begin(self, progress: Progress) -> None:
        """As of `Output`."""

    def write(self, messages: Sequence[InputMessage], progress: Progress) -> None:  # noqa: ARG002 - nothing is kept
        """As of `Output`."""
        try:
            self._stream.write(b"".join(map(self._encode, messages)))
            self._stream.flush()
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {error.strerror}") from None

    def finish(self) -> None:
        """As of `Output`."""

    def close(self) -> None:
        """As of `Output`."""


@contextmanager
def writing_whole(path: Path) -> Iterator[BinaryIO]:
    """Replaces a file, so that whoever reads it has the old content or the new one.

    Yields:
        A file for the new content, which is there after a loss of power, too, once this has ended.

    Raises:
        OSError: it cannot be written; the old content is there.
    """
    unfinished = unfinished_of(path)
    with unfinished.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def unfinished_of(path: Path) -> Path:
    """Returns where `writing_whole` writes until a file is whole; a kill leaves it there."""
    return path.with_name(f"{path.name}.new")
