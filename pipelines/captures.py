"""Capture files: recorded websocket messages, byte for byte, in order of arrival.

    file  = frame*
    frame = length (4 bytes, big-endian) , message (length bytes)

Read by `sim`, `verify`, `inspect` and the tests; written by `capture` and `replay`. The file has
no header and no checksum, so a damaged one is recognised by its lengths alone: a length over
`MAX_MESSAGE_BYTES` cannot be one, and a file that ends inside a frame has a torn tail. What the
messages say is not looked at: a capture holds garbage as faithfully as it holds events.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

# The limit of our websocket clients, far over the 5,000,000 bytes of a legal frame (spec: F-16).
# A longer one cannot have been received: the length is damaged, or this is no capture file. It
# bounds what a damaged length makes a reader allocate.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_LENGTH = struct.Struct(">I")


class CaptureError(Exception):
    """A capture cannot be read or written.

    Attributes:
        path: the file concerned.
        offset: where in the file the first damaged frame starts (at its length), in bytes; None
            where the trouble is not at one place.
        frame_count: number of whole frames before it; None likewise.
    """

    def __init__(
        self,
        path: Path,
        problem: str,
        *,
        offset: int | None = None,
        frame_count: int | None = None,
    ) -> None:
        super().__init__(path, problem, offset, frame_count)
        self.path = path
        self.problem = problem
        self.offset = offset
        self.frame_count = frame_count

    def __str__(self) -> str:
        if self.offset is None:
            return f"{self.path}: {self.problem}"
        return (
            f"{self.path}: {self.problem} (frame n={self.frame_count}, at byte {self.offset}; "
            f"the {self.frame_count} frames before it are whole)"
        )


class _TornTailError(CaptureError):
    """The file ends inside a frame: the writer was killed, or the copy is incomplete."""


def read_frames(path: Path) -> Iterator[bytes]:
    """Yields the messages of a capture file in order.

    Args:
        path: the file.

    Yields:
        Each websocket message, at most `MAX_MESSAGE_BYTES` long.

    Raises:
        CaptureError: the file cannot be opened, has an impossible length, or ends inside a
            frame. All whole frames before the damage were yielded.
    """
    try:
        with path.open("rb") as file:
            for offset, size, frame_count in _walk(file, path):
                message = file.read(size)
                if len(message) != size:
                    raise _torn(path, offset, frame_count, size, len(message))
                yield message
    except OSError as error:
        raise _cannot("read", path, error) from None


def encode_frame(message: bytes) -> bytes:
    """Returns a message as it stands in a capture, with its length before it.

    Args:
        message: at most `MAX_MESSAGE_BYTES`.
    """
    return _LENGTH.pack(len(message)) + message


class CaptureWriter:
    """Appends messages to a capture file, whole ones only.

    A message is handed to the operating system in one unbuffered write, so that a writer that is
    interrupted or killed loses nothing it had written, and at worst leaves a torn tail after it.
    A failed write (disk full) is undone. One writer a file: this is not checked.

    Attributes:
        frame_count: messages written through this object.
        byte_count: bytes of those messages, without their lengths.
        resumed_count: whole frames that the file held before.
        cut_bytes: size of the torn tail that was cut off when the file was opened.
    """

    def __init__(self, path: Path, *, append: bool = False) -> None:
        """Opens a file for writing.

        Args:
            path: the file.
            append: continue an existing file after its last whole frame, cutting off a torn
                tail. Without it the file must not exist.

        Raises:
            CaptureError: the file exists and `append` is false, is damaged otherwise than by a
                torn tail, or cannot be written.
        """
        self.frame_count = 0
        self.byte_count = 0
        self.resumed_count = 0
        self.cut_bytes = 0
        self._path = path
        try:
            flags = os.O_RDWR | os.O_CREAT | (0 if append else os.O_EXCL)
            self._file = os.fdopen(os.open(path, flags, 0o644), "r+b", buffering=0)
        except FileExistsError:
            raise CaptureError(
                path, "exists already: append to it (--append), or name another file"
            ) from None
        except OSError as error:
            raise _cannot("write", path, error) from None
        try:
            self._end = self._cut_torn_tail()
        except BaseException:
            self._file.close()
            raise

    def append(self, message: bytes) -> None:
        """Writes one message.

        Args:
            message: at most `MAX_MESSAGE_BYTES`.

        Raises:
            CaptureError: the message is too long or could not be written as a whole; the file is
                as before.
        """
        if len(message) > MAX_MESSAGE_BYTES:
            raise CaptureError(self._path, f"a message of {len(message)} bytes cannot be captured")
        unwritten = memoryview(encode_frame(message))
        try:
            while unwritten:
                unwritten = unwritten[self._file.write(unwritten) :]
        except OSError as error:
            self._file.truncate(self._end)
            self._file.seek(self._end)
            raise _cannot("write", self._path, error) from None
        self._end += _LENGTH.size + len(message)
        self.frame_count += 1
        self.byte_count += len(message)

    def close(self) -> None:
        """Closes the file; it is complete already."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _cut_torn_tail(self) -> int:
        """Returns where the last whole frame ends; the file is cut and positioned there."""
        end_of_file = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        end = 0
        with suppress(_TornTailError):
            for offset, size, frame_count in _walk(self._file, self._path):
                end_of_frame = offset + _LENGTH.size + size
                if end_of_frame > end_of_file:
                    break
                end = self._file.seek(end_of_frame)
                self.resumed_count = frame_count + 1
        self._file.truncate(end)
        self._file.seek(end)
        self.cut_bytes = end_of_file - end
        return end


def _walk(file: BinaryIO, path: Path) -> Iterator[tuple[int, int, int]]:
    """Yields (offset, message size, frames before) at each frame's message.

    The caller moves the file to the end of the message before it asks for the next one.
    """
    offset = 0
    frame_count = 0
    while head := file.read(_LENGTH.size):
        if len(head) != _LENGTH.size:
            raise _torn(path, offset, frame_count, _LENGTH.size, len(head))
        (size,) = _LENGTH.unpack(head)
        if size > MAX_MESSAGE_BYTES:
            raise CaptureError(
                path,
                f"damaged, or not a capture file: a length of {size} bytes is impossible",
                offset=offset,
                frame_count=frame_count,
            )
        yield offset, size, frame_count
        offset += _LENGTH.size + size
        frame_count += 1


def _torn(path: Path, offset: int, frame_count: int, wanted: int, found: int) -> CaptureError:
    return _TornTailError(
        path,
        f"truncated: the file ends inside a frame, {wanted - found} bytes short",
        offset=offset,
        frame_count=frame_count,
    )


def _cannot(verb: str, path: Path, error: OSError) -> CaptureError:
    return CaptureError(path, f"cannot {verb} it: {error.strerror}")
