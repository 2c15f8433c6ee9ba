"""CAR version 1, the container of blocks in commits, syncs and exports.

    varint(len(header)) ‖ header ‖ { varint(36 + len(block)) ‖ CID ‖ block }*

Every block is hashed while the file is split: a block that leaves this module matches its CID.
Any order of blocks, duplicates and unreferenced blocks are accepted, as the network has them.
Source: dasl.ing/car; draft-holmgren-at-repository "Repository Serialization Format".
spec: C-01…C-09, A-45.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from pipelines.atproto import cbor
from pipelines.atproto.cid import CID_BYTES, DAG_CBOR_PREFIX, RAW_PREFIX, is_dag_cbor_cid
from pipelines.atproto.errors import CarError, CidError, ProtocolError, Reason

# A header with one root is 58 bytes. More roots are legal and ignored; 64 of them fit.
MAX_HEADER_BYTES = 4096
# A record has at most 1 MiB, a node of the most and longest keys about as much. Bounds what a
# length can make a reader of pieces keep. A bound of ours. spec: C-05, M-06
MAX_SECTION_BYTES = 2 * 1024 * 1024
# 2^63 - 1 takes nine bytes; no length that can occur takes more than four.
_MAX_VARINT_BYTES = 9
_VERSION = 1
# In such pieces a file is read.
_PIECE_BYTES = 256 * 1024
# Of the CIDs whose blocks can be hashed. spec: C-08
_PREFIXES = (DAG_CBOR_PREFIX, RAW_PREFIX)


@runtime_checkable
class Readable(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int, /) -> bytes:
        """Returns the next bytes, `size` at most; none at the end."""


# The bytes of a CAR, a file open for reading, or its pieces in order.
CarSource: TypeAlias = bytes | Readable | Iterable[bytes]


class Car(NamedTuple):
    """A CAR file that was read as a whole.

    Attributes:
        roots: raw CIDs; the first is the commit, further ones have no defined meaning.
        blocks: raw CID → block, each hashed.
    """

    roots: tuple[bytes, ...]
    blocks: dict[bytes, bytes]


def read_car(data: bytes) -> Car:
    """Splits a CAR and checks every block against its CID.

    Args:
        data: the whole file; the caller bounds its size.

    Raises:
        CarError: malformed or truncated.
        CidError: a CID of a kind that cannot be checked, or a block that does not match its CID.
    """
    start, end = _find_header(data)
    if end > len(data):
        raise CarError(Reason.CAR_TRUNCATED, "the file ends inside its header")
    roots = _parse_header(data[start:end])
    sections: list[tuple[bytes, bytes]] = []
    position, _ = _split(data, end, 0, sections)
    if position != len(data):
        raise CarError(Reason.CAR_TRUNCATED, f"the file ends inside the block at {position}")
    return Car(roots, dict(sections))


class CarStream(NamedTuple):
    """A CAR file that is read block by block.

    Attributes:
        roots: as in `Car`.
        blocks: raw CID and block of each, hashed, in the order of the file, with repetitions. To
            be read once; raises as `CarReader`.
    """

    roots: tuple[bytes, ...]
    blocks: Iterator[tuple[bytes, bytes]]


def stream_car(source: CarSource) -> CarStream:
    """Reads a CAR of any size with the memory of a block and a piece.

    Whose pieces arrive without a call that waits for them, as from a socket, feeds them to a
    `CarReader`. Whether the blocks are a whole repository, `pipelines.atproto.repo` tells.

    Args:
        source: its bytes, a file open for reading, or its pieces in order. Of these as much is
            read at once as has the header.

    Raises:
        CarError: the header is malformed or not whole.
        CidError: as in `read_car`, of a block that came with the header.
        OSError: the file cannot be read.
    """
    reader = CarReader()
    pieces = pieces_of(source)
    sections: list[tuple[bytes, bytes]] = []
    while not reader.roots:
        piece = next(pieces, None)
        if piece is None:
            reader.close()  # raises: there is no header
        else:
            sections = reader.feed(piece)
    return CarStream(reader.roots, _blocks(reader, sections, pieces))


def _blocks(
    reader: "CarReader", sections: list[tuple[bytes, bytes]], pieces: Iterator[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    yield from sections
    for piece in pieces:
        yield from reader.feed(piece)
    reader.close()


def pieces_of(source: CarSource) -> Iterator[bytes]:
    """Yields the bytes of a CAR in pieces that a `CarReader` can be fed with.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(source, bytes):
        for start in range(0, len(source), _PIECE_BYTES):
            yield source[start : start + _PIECE_BYTES]
    elif isinstance(source, Readable):  # before the next: a file is also an iterable, of lines
        while piece := source.read(_PIECE_BYTES):
            yield piece
    else:
        yield from source


class CarReader:
    """Reads a CAR that arrives in pieces, of any size; keeps no more than one block and a piece.

    Attributes:
        roots: as in `Car`; empty until the header has arrived.
        taken_bytes: where the first block begins that has not arrived whole.
    """

    def __init__(self) -> None:
        self.roots: tuple[bytes, ...] = ()
        self.taken_bytes = 0
        self._pending = bytearray()
        # With fewer pending bytes nothing can be done: so each byte is looked at once, however
        # small the pieces are.
        self._needed_bytes = 1

    def feed(self, piece: bytes) -> list[tuple[bytes, bytes]]:
        """Takes the next bytes of the file.

        Args:
            piece: some bytes, perhaps none.

        Returns:
            Raw CID and block of each block that is whole now, in the order of the file.

        Raises:
            CarError: malformed, or with a section of more than `MAX_SECTION_BYTES`.
            CidError: as in `read_car`.
        """
        pending = self._pending
        pending += piece
        sections: list[tuple[bytes, bytes]] = []
        if len(pending) < self._needed_bytes:
            return sections
        data = bytes(pending)
        position = 0
        if not self.roots:
            start, position = _find_header(data)
            if position > len(data):
                self._needed_bytes = position
                return sections
            self.roots = _parse_header(data[start:position])
        position, self._needed_bytes = _split(data, position, self.taken_bytes, sections)
        del pending[:position]
        self.taken_bytes += position
        return sections

    def close(self) -> None:
        """Says that the file has ended.

        Raises:
            CarError: it ended inside its header or a block (`car.truncated`).
        """
        if self._pending or not self.roots:
            position = self.taken_bytes
            raise CarError(Reason.CAR_TRUNCATED, f"the file ends inside what begins at {position}")


def write_car(root: bytes, blocks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Makes a CAR with one root.

    Args:
        root: raw CID of the commit; its block may be anywhere among the blocks.
        blocks: raw CID and block, such as the items of a dict, in the order of the file. That a
            block has the hash of its CID is the caller's promise.

    Raises:
        CidError: a CID that no reader can check.
    """
    return b"".join(write_car_chunks(root, blocks))


def write_car_chunks(root: bytes, blocks: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Makes a CAR piece by piece: its header, then each block.

    Args:
        root: as in `write_car`.
        blocks: likewise; taken one at a time.

    Yields:
        Bytes that make up the file.

    Raises:
        CidError: as in `write_car`, when the block's turn has come.
    """
    if not is_dag_cbor_cid(root):
        raise CidError(
            Reason.CID_UNSUPPORTED, f"the root {root.hex()} is not the CID of an object"
        )
    header = cbor.encode({"roots": [root], "version": _VERSION})
    yield _varint(len(header)) + header
    for cid, block in blocks:
        if len(cid) != CID_BYTES or cid[:4] not in _PREFIXES:
            raise CidError(Reason.CID_UNSUPPORTED, f"a block has CID {cid.hex()}")
        yield _varint(CID_BYTES + len(block)) + cid + block


def _split(
    data: bytes, position: int, offset: int, sections: list[tuple[bytes, bytes]]
) -> tuple[int, int]:
    """Splits sections and checks each block against its CID.

    Args:
        data: part of a file.
        position: in it, where a section begins.
        offset: of `data` in the file, for errors.
        sections: raw CID and block are appended to it.

    Returns:
        Where the first section begins that `data` does not hold whole, and how many bytes from
        there are needed at least to go on.
    """
    total = len(data)
    append = sections.append
    while position < total:
        # The common case of a two-byte varint in line: this loop runs ten times a commit.
        length = data[position]
        if length < 0x80:
            start = position + 1
        elif position + 1 < total and 0 < data[position + 1] < 0x80:
            length += (data[position + 1] << 7) - 0x80
            start = position + 2
        else:
            length, start = _read_varint(data, position, offset)
            if start > total:
                return position, start - position
            if length > MAX_SECTION_BYTES:
                raise _bad_section(length, offset + position)
        if length < CID_BYTES:
            raise _bad_section(length, offset + position)
        end = start + length
        if end > total:
            return position, end - position
        body = start + CID_BYTES
        cid = data[start:body]
        block = data[body:end]
        if cid != DAG_CBOR_PREFIX + sha256(block).digest():
            _check_other_cid(cid, block, offset + position)
        append((cid, block))
        position = end
    return position, 1


def _bad_section(length: int, position: int) -> CarError:
    return CarError(Reason.CAR_SECTION, f"section of {length} bytes at {position}")


def _check_other_cid(cid: bytes, block: bytes, position: int) -> None:
    """Checks a block that is not an object with the right hash: perhaps a raw one."""
    if cid[:4] not in _PREFIXES:
        raise CidError(Reason.CID_UNSUPPORTED, f"the block at {position} has CID {cid.hex()}")
    if cid != RAW_PREFIX + sha256(block).digest():
        raise CidError(Reason.CID_HASH_MISMATCH, f"the block at {position} has another hash")


def _read_varint(data: bytes, position: int, offset: int) -> tuple[int, int]:
    """Reads an unsigned LEB128 number in its shortest form.

    Returns:
        Value and next position; a position beyond the end of `data` if the number is not whole.
    """
    value = 0
    for index, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index > 0:
                raise CarError(Reason.CAR_SECTION, f"padded length at {offset + position}")
            return value, position + index + 1
    if position + _MAX_VARINT_BYTES > len(data):
        return 0, len(data) + 1
    raise CarError(Reason.CAR_SECTION, f"length of more than 63 bits at {offset + position}")


def _find_header(data: bytes) -> tuple[int, int]:
    """Returns where a file's header begins and ends; the end may lie beyond `data`."""
    length, start = _read_varint(data, 0, 0)
    if start > len(data):
        return start, start
    if not 0 < length <= MAX_HEADER_BYTES:
        raise CarError(Reason.CAR_HEADER, f"header of {length} bytes")
    return start, start + length


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _parse_header(raw: bytes) -> tuple[bytes, ...]:
    try:
        header = cbor.decode(raw)
    except ProtocolError as error:
        raise CarError(Reason.CAR_HEADER, error.detail) from None
    if not isinstance(header, dict) or type(header.get("version")) is not int:
        raise CarError(Reason.CAR_HEADER, "the header is not a map with a version")
    if header["version"] != _VERSION:
        raise CarError(Reason.CAR_HEADER, f"version {header['version']}")
    if len(header) != 2:
        raise CarError(Reason.CAR_HEADER, "the header has further fields")
    # The IETF draft calls the field `root`; everything deployed calls it `roots`. spec: C-02
    roots = header.get("roots", header.get("root"))
    if not isinstance(roots, list) or not roots:
        raise CarError(Reason.CAR_HEADER, "the header names no root")
    if not all(map(is_dag_cbor_cid, roots)):
        raise CarError(Reason.CAR_HEADER, "a root is not the CID of an object")
    return tuple(roots)
