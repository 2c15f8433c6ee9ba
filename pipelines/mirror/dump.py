"""A dump of a directory: the lines of its export in a file, plain or compressed with gzip.

What a dump says was true when it was written, for which the time of the file is taken: of a later
change it knows nothing.
"""

import gzip
import threading
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from pipelines.errors import ConfigError
from pipelines.mirror.export import (
    PAGE_LINES,
    ExportError,
    Line,
    is_behind,
    parse_line,
    position_after,
)
from pipelines.mirror.source import Chunk

# An operation has at most 7,500 bytes; in JSON, with escapes, a few times that.
MAX_LINE_BYTES: Final = 256 * 1024

_GZIP_MAGIC: Final = b"\x1f\x8b"


class DumpFile:
    """A dump that is read from its beginning; what is behind a position is passed over."""

    def __init__(self, path: Path) -> None:
        """Takes the file.

        Args:
            path: it is opened when its chunks are asked for.
        """
        self._path = path

    def chunks(self, position: str, stop: threading.Event) -> Generator[Chunk]:
        """Yields the lines after a position, a page's worth at a time.

        Raises:
            ConfigError: the file cannot be read or is no dump. What came before the place where
                it breaks off has been yielded.
        """
        try:
            with self._path.open("rb") as raw:
                stat = self._path.stat()
                size_bytes, written_us = max(1, stat.st_size), stat.st_mtime_ns // 1_000
                for lines, is_last in self._pages(_text(raw), position, stop):
                    position = position_after(position, lines, is_full=False)
                    share = min(1.0, raw.tell() / size_bytes)
                    yield Chunk(lines, position, share, is_last, written_us)
        except OSError as error:
            raise ConfigError(f"cannot read {self._path}: {error.strerror or error}") from None
        except ExportError as error:
            raise ConfigError(f"{self._path} is not the dump of an export: {error}") from None

    def _pages(
        self, text: BinaryIO, position: str, stop: threading.Event
    ) -> Iterator[tuple[list[Line], bool]]:
        lines: list[Line] = []
        number = 0
        is_passing = True
        try:
            while not stop.is_set() and (raw := text.readline(MAX_LINE_BYTES + 1)):
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    raise ExportError(f"longer than {MAX_LINE_BYTES} bytes")
                if not raw.strip():
                    continue
                line = parse_line(raw)
                is_passing = is_passing and is_behind(line, position)
                if is_passing:
                    continue
                lines.append(line)
                if len(lines) == PAGE_LINES:
                    yield lines, False
                    lines = []
        except (ExportError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            yield lines, False
            raise ConfigError(f"{self._path} breaks off at line {number}: {error}") from None
        yield lines, not stop.is_set()


def _text(raw: BinaryIO) -> BinaryIO:
    magic = raw.read(len(_GZIP_MAGIC))
    raw.seek(0)
    return cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if magic == _GZIP_MAGIC else raw
