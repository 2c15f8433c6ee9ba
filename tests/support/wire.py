"""Bytes as they go over the wire, written by hand: CAR files, frames, revisions.

Independent of `pipelines.atproto`, so that both cannot be wrong in the same way.
"""

from collections.abc import Iterable
from typing import Any

from support.oracle import cid_of, dag_cbor, link

_TID_ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"

# 2026-01-01T00:00:00Z, the moment at which made-up repositories begin.
START_US = 1_767_225_600_000_000
START_TIME = "2026-01-01T00:00:00.000Z"


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def car_header(roots: Iterable[bytes], **fields: Any) -> bytes:
    header = dag_cbor({"roots": [link(root) for root in roots], "version": 1} | fields)
    return varint(len(header)) + header


def car_section(cid: bytes, block: bytes) -> bytes:
    return varint(len(cid) + len(block)) + cid + block


def car(root: bytes, blocks: Iterable[bytes]) -> bytes:
    """Makes a CAR of DAG-CBOR blocks, in the given order."""
    return car_header([root]) + b"".join(car_section(cid_of(block), block) for block in blocks)


def frame(type_name: str, payload: dict[str, Any]) -> bytes:
    return dag_cbor({"op": 1, "t": type_name}) + dag_cbor(payload)


def tid(time_us: int, clock_id: int = 0) -> str:
    """Returns the TID of a time."""
    number = time_us << 10 | clock_id
    return "".join(_TID_ALPHABET[number >> shift & 31] for shift in range(60, -1, -5))


def rev(second: int) -> str:
    """Returns a revision, some seconds after the beginning."""
    return tid(START_US + second * 1_000_000)
