"""A CAR kept aside while it arrives, so that its blocks can be read in another order.

The only part of the protocol core that touches the machine: a nameless temporary file, which the
operating system removes by itself. Small CARs stay in memory.
"""

import io
import mmap
import tempfile
from collections.abc import Iterator, Sequence

from pipelines.atproto.cid import CID_BYTES
from pipelines.atproto.errors import CarError, Reason

# Until then nothing is written to the disk; most repositories are smaller.
MEMORY_BYTES = 2 * 1024 * 1024
# Bounds the index, which takes about 250 bytes of memory a block. Enough for 2.2 million records;
# the specification calls single-digit millions the design range. spec: M-06, M-08
MAX_INDEXED_BLOCKS_COUNT = 3_000_000

# The place of a block is one number: its offset, then its size in so many bits. A section is never
# larger (`pipelines.atproto.car.MAX_SECTION_BYTES`).
_SIZE_BITS = 22
_PIECE_BYTES = 256 * 1024
_SIZE_MASK = (1 << _SIZE_BITS) - 1


class Spill:
    """The bytes of a CAR as they came, and, once somebody asks, where each block lies in them.

    First everything is written, then blocks are read.

    Attributes:
        byte_count: bytes written.
    """

    def __init__(self) -> None:
        self.byte_count = 0
        self._file: io.BytesIO | io.FileIO = io.BytesIO()
        self._places: dict[bytes, int] = {}
        self._view: bytes | mmap.mmap | None = None

    def write(self, piece: bytes) -> None:
        """Appends the next bytes of the CAR.

        Raises:
            OSError: the disk is full or broken.
        """
        self.byte_count += len(piece)
        if self.byte_count > MEMORY_BYTES and isinstance(self._file, io.BytesIO):
            memory = self._file.getvalue()
            # Unbuffered: it is written in large pieces and read here and there.
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - `close` closes it
            self._append(memory)
        self._append(piece)

    def _append(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            rest = rest[self._file.write(rest) :]

    def pieces(self) -> Iterator[bytes]:
        """Yields again what was written; to be exhausted before the next write."""
        self._file.seek(0)
        while piece := self._file.read(_PIECE_BYTES):
            yield piece

    def index(self, sections: Sequence[tuple[bytes, bytes]], end: int) -> None:
        """Notes where blocks lie.

        Args:
            sections: raw CID and block, as they follow each other in the CAR.
            end: offset in the CAR of the byte after the last of them.

        Raises:
            CarError: more than `MAX_INDEXED_BLOCKS_COUNT` different blocks (`car.too_large`).
        """
        places = self._places
        for cid, block in reversed(sections):
            size = len(block)
            places[cid] = end - size << _SIZE_BITS | size
            size += CID_BYTES
            end -= size + (size.bit_length() + 6) // 7  # the length before it is a varint
        if len(places) > MAX_INDEXED_BLOCKS_COUNT:
            what = f"more than {MAX_INDEXED_BLOCKS_COUNT} blocks, and not in streamable order"
            raise CarError(Reason.CAR_TOO_LARGE, what)

    def read(self, cid: bytes) -> bytes | None:
        """Returns an indexed block; None if there is none with this CID."""
        place = self._places.get(cid)
        if place is None:
            return None
        view = self._view or self._open_view()
        start = place >> _SIZE_BITS
        return view[start : start + (place & _SIZE_MASK)]

    def _open_view(self) -> bytes | mmap.mmap:
        # Mapped, which costs a quarter of a seek and a read for each block.
        if isinstance(self._file, io.BytesIO):
            self._view = self._file.getvalue()
        else:
            self._view = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._view

    def close(self) -> None:
        """Forgets everything."""
        if isinstance(self._view, mmap.mmap):
            self._view.close()
        self._view = None
        self._file.close()
        self._places.clear()
