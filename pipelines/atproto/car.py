"""CAR version 1, the container of blocks in commits, syncs and exports.

    varint(len(header)) ‖ header ‖ { varint(36 + len(block)) ‖ CID ‖ block }*

Every block is hashed while the file is split: a block that leaves this module matches its CID.
Any order of blocks, duplicates and unreferenced blocks are accepted, as the network has them.
Source: dasl.ing/car; draft-holmgren-at-repository "Repository Serialization Format".
spec: C-01…C-09, A-45.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import NamedTuple

from pipelines.atproto import cbor
from pipelines.atproto.cid import CID_BYTES, DAG_CBOR_PREFIX, RAW_PREFIX, is_dag_cbor_cid
from pipelines.atproto.errors import CarError, CidError, ProtocolError, Reason

# A header with one root is 58 bytes. More roots are legal and ignored; 64 of them fit.
MAX_HEADER_BYTES = 4096
# 2^63 - 1 takes nine bytes; no length that can occur takes more than four.
_MAX_VARINT_BYTES = 9
_VERSION = 1
# Of the CIDs whose blocks can be hashed. spec: C-08
_PREFIXES = (DAG_CBOR_PREFIX, RAW_PREFIX)


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
    header_length, start = _read_varint(data, 0)
    if header_length > MAX_HEADER_BYTES:
        raise CarError(Reason.CAR_HEADER, f"header of {header_length} bytes")
    end = start + header_length
    total = len(data)
    if end > total:
        raise CarError(Reason.CAR_TRUNCATED, "the file ends inside its header")
    roots = _parse_header(data[start:end])

    blocks: dict[bytes, bytes] = {}
    position = end
    while position < total:
        # The common case of a two-byte varint in line: this loop runs ten times a commit.
        length = data[position]
        if length < 0x80:
            position += 1
        elif position + 1 < total and 0 < data[position + 1] < 0x80:
            length += (data[position + 1] << 7) - 0x80
            position += 2
        else:
            length, position = _read_varint(data, position)
        end = position + length
        if end > total:
            raise CarError(Reason.CAR_TRUNCATED, f"the file ends inside the block at {position}")
        if length < CID_BYTES:
            raise CarError(Reason.CAR_SECTION, f"section of {length} bytes at {position}")
        body = position + CID_BYTES
        cid = data[position:body]
        block = data[body:end]
        if cid != DAG_CBOR_PREFIX + sha256(block).digest():
            _check_other_cid(cid, block, position)
        blocks[cid] = block
        position = end
    return Car(roots, blocks)


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


def _check_other_cid(cid: bytes, block: bytes, position: int) -> None:
    """Checks a block that is not an object with the right hash: perhaps a raw one."""
    if cid[:4] not in _PREFIXES:
        raise CidError(Reason.CID_UNSUPPORTED, f"the block at {position} has CID {cid.hex()}")
    if cid != RAW_PREFIX + sha256(block).digest():
        raise CidError(Reason.CID_HASH_MISMATCH, f"the block at {position} has another hash")


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Returns (value, next position) of an unsigned LEB128 number in its shortest form."""
    value = 0
    for index, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index > 0:
                raise CarError(Reason.CAR_SECTION, f"padded length at {position}")
            if value == 0:
                raise CarError(Reason.CAR_SECTION, f"empty section at {position}")
            return value, position + index + 1
    if position + _MAX_VARINT_BYTES > len(data):
        raise CarError(Reason.CAR_TRUNCATED, f"the file ends inside the length at {position}")
    raise CarError(Reason.CAR_SECTION, f"length of more than 63 bits at {position}")


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
