"""Private keys and signed commits: the producer's side of `keys` and `commit`.

A signature is deterministic (RFC 6979) and has a low `s`, on both curves: the same key and message
always give the same 64 bytes. Source: https://atproto.com/specs/cryptography;
draft-holmgren-at-repository "Signature Generation". spec: B-06, B-07, D-01…D-03

Not for accounts of the network: keys are held in memory without any protection.
"""

import hashlib
from typing import Any, Final

from coincurve._libsecp256k1 import (  # type: ignore[import-not-found]  # C, without stubs
    ffi,
    lib,
)
from coincurve.context import GLOBAL_CONTEXT
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pipelines.atproto.commit import CommitLayout, SignedCommit
from pipelines.atproto.keys import HALF_ORDER, ORDER, SIGNATURE_BYTES, Curve, VerifyingKey
from pipelines.atproto.syntax import Did, Tid

SECRET_BYTES: Final = 32

_P256_ORDER: Final = int.from_bytes(ORDER["p256"])
_P256_HALF_ORDER: Final = int.from_bytes(HALF_ORDER["p256"])
_P256_DIGEST: Final = ec.ECDSA(SHA256(), deterministic_signing=True)


class SigningKey:
    """A private key.

    Attributes:
        verifying_key: the public key that checks its signatures.
    """

    __slots__ = ("_p256", "_secret", "verifying_key")

    def __init__(self, curve: Curve, secret: bytes) -> None:
        """Makes a key from a secret number.

        Args:
            curve: `k256` or `p256`.
            secret: big-endian number of 32 bytes, from 1 to the curve's order less 1.

        Raises:
            ValueError: the secret is no such number.
        """
        if not (len(secret) == SECRET_BYTES and bytes(SECRET_BYTES) < secret < ORDER[curve]):
            raise ValueError(f"the secret is not from 1 to the order of {curve} less 1")
        # OpenSSL derives the public point of either curve; only signing is worth a faster way.
        library_curve = ec.SECP256K1() if curve == "k256" else ec.SECP256R1()
        private = ec.derive_private_key(int.from_bytes(secret), library_curve)
        point = private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        self.verifying_key = VerifyingKey(curve, point)
        self._secret = secret
        self._p256 = private if curve == "p256" else None

    def sign(self, message: bytes) -> bytes:
        """Returns r ‖ s, 64 bytes with a low s, over the SHA-256 of a message."""
        if self._p256 is None:
            return _sign_k256(self._secret, hashlib.sha256(message).digest())
        r, s = decode_dss_signature(self._p256.sign(message, _P256_DIGEST))
        if s > _P256_HALF_ORDER:
            s = _P256_ORDER - s
        return r.to_bytes(32) + s.to_bytes(32)


def _sign_k256(secret: bytes, digest: bytes) -> bytes:
    # RFC 6979 and a low s are what the library does by default.
    signature: Any = ffi.new("secp256k1_ecdsa_signature *")
    is_signed = lib.secp256k1_ecdsa_sign(
        GLOBAL_CONTEXT.ctx, signature, digest, secret, ffi.NULL, ffi.NULL
    )
    assert is_signed, "only an invalid secret cannot sign"
    compact = ffi.new("unsigned char[]", SIGNATURE_BYTES)
    lib.secp256k1_ecdsa_signature_serialize_compact(GLOBAL_CONTEXT.ctx, compact, signature)
    return bytes(ffi.buffer(compact, SIGNATURE_BYTES))


def sign_commit(signing_key: SigningKey, did: Did, rev: Tid, data_cid: bytes) -> SignedCommit:
    """Makes the commit object of a state of a repository.

    Args:
        signing_key: the account's key.
        did: the repository.
        rev: the revision; higher than any before.
        data_cid: raw CID of the tree's root.
    """
    layout = CommitLayout.of(did, rev, data_cid, None)
    unsigned = layout.unsigned()
    signature = signing_key.sign(unsigned)
    return SignedCommit(did, rev, data_cid, None, signature, unsigned, layout.signed(signature))
