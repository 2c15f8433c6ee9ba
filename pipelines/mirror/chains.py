"""The chain of a DID's operations as bytes, as the store keeps it.

    chain   links, one after the other
    link    digest of the CID (32), created_us (8), signer_index (2), is_tombstone (1),
            number of rotation keys (2), then the keys
    key     curve (1) and compressed point (33); a key that cannot be used is a zero byte

All numbers are big-endian. Pure.
"""

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from pipelines.atproto.cid import DAG_CBOR_PREFIX
from pipelines.atproto.keys import COMPRESSED_KEY_BYTES, Curve, VerifyingKey
from pipelines.identity.plc import Chain, Link

# Most accounts share the keys of their host. About half a kilobyte each.
_CACHED_KEYS_COUNT: Final = 8_192

_LINK: Final = struct.Struct(">32sqH?H")
_CURVES: Final[tuple[Curve | None, ...]] = (None, "k256", "p256")
_CODES: Final = {curve: bytes([code]) for code, curve in enumerate(_CURVES)}


def encode_chain(chain: Chain) -> bytes:
    """Returns a chain as bytes."""
    return b"".join(map(_encode_link, chain))


def decode_chain(raw: bytes) -> Chain:
    """Returns the chain in what `encode_chain` returned."""
    return tuple(_decode_links(raw))


def _encode_link(link: Link) -> bytes:
    head = _LINK.pack(
        link.cid[len(DAG_CBOR_PREFIX) :],
        link.created_us,
        link.signer_index,
        link.is_tombstone,
        len(link.rotation_keys),
    )
    return head + b"".join(map(_encode_key, link.rotation_keys))


def _encode_key(key: VerifyingKey | None) -> bytes:
    return _CODES[None] if key is None else _CODES[key.curve] + key.compressed


def _decode_links(raw: bytes) -> Iterator[Link]:
    position = 0
    while position < len(raw):
        digest, created_us, signer_index, is_tombstone, count = _LINK.unpack_from(raw, position)
        position += _LINK.size
        keys: list[VerifyingKey | None] = []
        for _ in range(count):
            curve = _CURVES[raw[position]]
            position += 1
            if curve is None:
                keys.append(None)
            else:
                keys.append(_key(curve, raw[position : position + COMPRESSED_KEY_BYTES]))
                position += COMPRESSED_KEY_BYTES
        yield Link(DAG_CBOR_PREFIX + digest, created_us, tuple(keys), signer_index, is_tombstone)


@lru_cache(_CACHED_KEYS_COUNT)
def _key(curve: Curve, compressed: bytes) -> VerifyingKey:
    return VerifyingKey(curve, compressed)
