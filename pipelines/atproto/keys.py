"""Public keys and signature checks on the two curves of the protocol.

Implements https://atproto.com/specs/cryptography and the key forms of
https://atproto.com/specs/did. A signature is ECDSA over the SHA-256 of the message, written as 64
raw bytes r ‖ s, and `s` must be in the lower half of the curve's order: otherwise anybody could
turn a signed commit into another one with a different CID.

K-256, which practically every account uses, goes straight to libsecp256k1 through the low-level
binding that coincurve carries: a fifth of the time OpenSSL takes. P-256 goes to `cryptography`.
libipld reads and writes the text forms, since importing a directory means tens of millions of
keys; multiformats knows the other kinds of keys.

Always checked: the point is on its curve, the form and range of a signature, low s, the signature
itself. Not checked: whether the key is the one an account uses; that is `pipelines.identity`.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import libipld
from coincurve._libsecp256k1 import (  # type: ignore[import-not-found]  # C, without stubs
    ffi,
    lib,
)
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from multiformats import multicodec

from pipelines.atproto.errors import KeyFormatError, Reason, SignatureError

Curve = Literal["k256", "p256"]

COMPRESSED_KEY_BYTES: Final = 33
UNCOMPRESSED_KEY_BYTES: Final = 65
SIGNATURE_BYTES: Final = 64

# Longer than any public key in use (RSA-4096: 720), so that a key of another kind is told apart
# from a malformed one; base58 costs time quadratic in the length, here under a millisecond.
MAX_KEY_TEXT_LENGTH: Final = 1_024

# Checked here, so that what the decoder is lenient about does not matter.
_match_base58btc = re.compile("z[1-9A-HJ-NP-Za-km-z]+").fullmatch

_CURVE_OF_PREFIX: Final[dict[bytes, Curve]] = {b"\xe7\x01": "k256", b"\x80\x24": "p256"}
_PREFIX_OF_CURVE: Final = {curve: prefix for prefix, curve in _CURVE_OF_PREFIX.items()}

# Orders of the two groups (SEC 2), big-endian like r and s, so that bytes compare like numbers.
ORDER: Final[dict[Curve, bytes]] = {
    "k256": bytes.fromhex("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"),
    "p256": bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"),
}
HALF_ORDER: Final = {
    curve: (int.from_bytes(order) >> 1).to_bytes(32) for curve, order in ORDER.items()
}
_ZERO: Final = bytes(32)

# The library's built-in context: constant, so safe to share between threads, and enough to verify.
_CONTEXT: Final = lib.secp256k1_context_static
_P256_DIGEST: Final = ec.ECDSA(Prehashed(SHA256()))


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key that signatures are checked with. Making one checks the point.

    Attributes:
        curve: `k256` (secp256k1) or `p256` (secp256r1).
        compressed: the point in SEC 1 compressed form, 33 bytes; the first is 2 or 3.

    Raises:
        KeyFormatError: the bytes are no compressed point on the curve (`KEY_INVALID`).
    """

    curve: Curve
    compressed: bytes
    # The library's parsed form: parsing takes a fifth of the time of a verification.
    _point: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.compressed) != COMPRESSED_KEY_BYTES:
            raise _invalid_key(self.curve, self.compressed)
        object.__setattr__(self, "_point", _parse_point(self.curve, self.compressed))

    def __reduce__(self) -> tuple[Any, ...]:
        # The parsed point belongs to a C library and cannot be pickled.
        return (type(self), (self.curve, self.compressed))

    def verify(self, message: bytes, signature: bytes) -> None:
        """Checks that this key's owner signed a message.

        Args:
            message: the signed bytes; they are hashed here.
            signature: 64 bytes, r and s as big-endian integers of 32 bytes each.

        Raises:
            SignatureError: the signature is not 64 bytes or r or s is outside 1 … n-1
                (`SIGNATURE_FORM`), s is above n/2 (`SIGNATURE_HIGH_S`), or it was not made by
                this key over this message (`SIGNATURE_INVALID`).
        """
        if len(signature) != SIGNATURE_BYTES:
            raise SignatureError(
                Reason.SIGNATURE_FORM, f"a signature has 64 bytes, this one {len(signature)}"
            )
        r, s = signature[:32], signature[32:]
        order = ORDER[self.curve]
        if not (_ZERO < r < order and _ZERO < s < order):
            raise SignatureError(
                Reason.SIGNATURE_FORM, "r or s is zero or not below the curve's order"
            )
        if s > HALF_ORDER[self.curve]:
            raise SignatureError(
                Reason.SIGNATURE_HIGH_S, "s is in the upper half of the curve's order"
            )
        digest = hashlib.sha256(message).digest()
        if self.curve == "k256":
            is_valid = _verify_k256(self._point, digest, signature)
        else:
            is_valid = _verify_p256(self._point, digest, r, s)
        if not is_valid:
            raise SignatureError(
                Reason.SIGNATURE_INVALID, f"the {self.curve} key did not sign this"
            )

    def multikey(self) -> str:
        """Returns the key as DID documents of type `Multikey` have it: `z…`, base58btc."""
        return libipld.encode_multibase("z", _PREFIX_OF_CURVE[self.curve] + self.compressed)

    def did_key(self) -> str:
        """Returns the key as PLC operations have it: `did:key:z…`."""
        return f"did:key:{self.multikey()}"


def parse_did_key(text: object) -> VerifyingKey:
    """Reads a key as PLC operations have it.

    Args:
        text: `did:key:` and a multikey.

    Returns:
        The key.

    Raises:
        KeyFormatError: the text is malformed or the point not on its curve (`KEY_INVALID`), or it
            is a key of another kind (`KEY_UNSUPPORTED`).
    """
    if not isinstance(text, str) or not text.startswith("did:key:"):
        raise KeyFormatError(Reason.KEY_INVALID, "not text that starts with did:key:")
    return parse_multikey(text.removeprefix("did:key:"))


def parse_multikey(text: object) -> VerifyingKey:
    """Reads the `publicKeyMultibase` of a verification method of type `Multikey`.

    Args:
        text: `z` and base58btc of the multicodec (`e7 01` for K-256, `80 24` for P-256) and the
            compressed point.

    Returns:
        The key.

    Raises:
        KeyFormatError: as for `parse_did_key`.
    """
    raw = _decode_base58btc(text)
    curve = _CURVE_OF_PREFIX.get(raw[:2])
    if curve is None:
        raise _unsupported_key(raw)
    return VerifyingKey(curve, raw[2:])


def parse_legacy_key(curve: Curve, text: object) -> VerifyingKey:
    """Reads the `publicKeyMultibase` of a verification method of the 2019 types.

    The method's type names the curve. The specification says the point is uncompressed; published
    vectors have it compressed: both lengths are accepted.

    Args:
        curve: the curve that the verification method's type stands for.
        text: `z` and base58btc of the bare point, 33 or 65 bytes, without multicodec.

    Returns:
        The same key as its multikey form.

    Raises:
        KeyFormatError: the text is malformed or the point not on the curve (`KEY_INVALID`).
    """
    point = _decode_base58btc(text)
    if len(point) != UNCOMPRESSED_KEY_BYTES:
        return VerifyingKey(curve, point)
    # Byte 0 is 4 for an uncompressed point; 6 and 7 are a hybrid form that only some accept.
    if point[0] != 4:
        raise _invalid_key(curve, point)
    _parse_point(curve, point)
    return VerifyingKey(curve, bytes([2 + (point[64] & 1)]) + point[1:33])


def _decode_base58btc(text: object) -> bytes:
    if not isinstance(text, str):
        raise KeyFormatError(Reason.KEY_INVALID, f"{type(text).__name__} instead of text")
    if len(text) > MAX_KEY_TEXT_LENGTH:
        raise KeyFormatError(
            Reason.KEY_INVALID,
            f"{len(text)} characters, of which a key has at most {MAX_KEY_TEXT_LENGTH}",
        )
    if not _match_base58btc(text):
        raise KeyFormatError(Reason.KEY_INVALID, "not base58btc in multibase form (z…)")
    return libipld.decode_multibase(text)[1]


def _parse_point(curve: Curve, point: bytes) -> Any:
    """Returns a library's form of a SEC 1 point; the caller has checked length and form byte."""
    if curve == "k256":
        parsed = ffi.new("secp256k1_pubkey *")
        if not lib.secp256k1_ec_pubkey_parse(_CONTEXT, parsed, point, len(point)):
            raise _invalid_key(curve, point)
        return parsed
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise _invalid_key(curve, point) from None


def _verify_k256(point: Any, digest: bytes, signature: bytes) -> bool:
    parsed = ffi.new("secp256k1_ecdsa_signature *")
    return bool(
        lib.secp256k1_ecdsa_signature_parse_compact(_CONTEXT, parsed, signature)
        and lib.secp256k1_ecdsa_verify(_CONTEXT, parsed, digest, point)
    )


def _verify_p256(point: ec.EllipticCurvePublicKey, digest: bytes, r: bytes, s: bytes) -> bool:
    der = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
    try:
        point.verify(der, digest, _P256_DIGEST)
    except InvalidSignature:
        return False
    return True


def _unsupported_key(raw: bytes) -> KeyFormatError:
    try:
        codec, _, _ = multicodec.unwrap_raw(raw)
    except KeyError:
        return KeyFormatError(Reason.KEY_UNSUPPORTED, "the key's multicodec is unknown")
    except ValueError:
        return KeyFormatError(Reason.KEY_INVALID, "the key has no multicodec")
    return KeyFormatError(
        Reason.KEY_UNSUPPORTED, f"multicodec {codec:#x} is neither a K-256 nor a P-256 key"
    )


def _invalid_key(curve: str, point: bytes) -> KeyFormatError:
    return KeyFormatError(
        Reason.KEY_INVALID, f"{len(point)} bytes that are not an accepted {curve} point"
    )
