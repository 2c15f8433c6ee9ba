"""Content identifiers: raw 36-byte strings inside, base32 text at the edges.

A blessed CID is version 1, codec DAG-CBOR (0x71, objects) or raw (0x55, blobs), SHA-256.
    01 71 12 20 ‖ 32 bytes of digest
No other kind can be checked by us; other kinds occur as values inside records and are left alone
there. Source: atproto.com/specs/data-model "Link and CID Formats". spec: A-40…A-46.
"""

from hashlib import sha256
from typing import TypeGuard

import libipld

from pipelines.atproto.errors import CidError, Reason

CID_BYTES = 36
DAG_CBOR_PREFIX = b"\x01\x71\x12\x20"
RAW_PREFIX = b"\x01\x55\x12\x20"

_TEXT_LENGTH = 59


def cid_of(block: bytes) -> bytes:
    """Returns the CID of a DAG-CBOR block."""
    return DAG_CBOR_PREFIX + sha256(block).digest()


def is_dag_cbor_cid(value: object) -> TypeGuard[bytes]:
    """Tells whether a decoded value is a blessed CID of an object."""
    return type(value) is bytes and len(value) == CID_BYTES and value[:4] == DAG_CBOR_PREFIX


def parse_cid(text: object) -> bytes:
    """Returns the raw form of a CID in text form.

    Args:
        text: a decoded field; `b` and 58 characters of lower-case base32, without padding.

    Raises:
        CidError: not a blessed CID in its one text form.
    """
    if not isinstance(text, str):
        raise CidError(Reason.CID_INVALID, f"not a CID: {type(text).__name__} instead of text")
    if len(text) == _TEXT_LENGTH and text[0] == "b":
        try:
            raw = bytes(libipld.decode_multibase(text)[1])
        except ValueError:
            raw = b""
        # Comparing the way back also catches upper case and non-zero trailing bits.
        if raw[:4] in (DAG_CBOR_PREFIX, RAW_PREFIX) and encode_cid(raw) == text:
            return raw
    raise CidError(Reason.CID_INVALID, f"{text[:80]!r} is not a CID of the AT protocol")


def encode_cid(cid: bytes) -> str:
    """Returns the text form of a raw CID."""
    return libipld.encode_multibase("b", cid)
