"""Signatures of our own: deterministic, with a low s, and accepted by what checks all others."""

import hashlib

import pytest
from support import wire
from support.oracle import cid_of, dag_cbor, link
from support.repo import DID

from pipelines.atproto.commit import CommitLayout, parse_commit
from pipelines.atproto.errors import Reason, SignatureError
from pipelines.atproto.keys import HALF_ORDER, ORDER, SIGNATURE_BYTES, Curve
from pipelines.atproto.signing import SigningKey, sign_commit
from pipelines.atproto.syntax import Tid

CURVES: list[Curve] = ["k256", "p256"]
DATA_CID = cid_of(b"a root")

# RFC 6979 A.2.5: P-256 with SHA-256. The first one's s is given there in its high form.
RFC_6979_SECRET = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"
RFC_6979 = {
    b"sample": (
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
    ),
    b"test": (
        "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367",
        "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
    ),
}
# The vectors that implementations of RFC 6979 on secp256k1 share, with the secret 1.
K256_SECRET_1 = {
    b"Satoshi Nakamoto": (
        "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"
        "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
    ),
    b"All those moments will be lost in time, like tears in rain. Time to die...": (
        "8600dbd41e348fe5c9465ab92d23e3db8b98b873beecd930736488696438cb6b"
        "547fe64427496db33bf66019dacbf0039c04199abb0122918601db38a72cfc21"
    ),
}


def key(curve: Curve, number: int = 1) -> SigningKey:
    return SigningKey(curve, number.to_bytes(32))


@pytest.mark.parametrize("message", RFC_6979)
def test_p256_as_rfc_6979_has_it(message: bytes) -> None:
    """spec: D-03."""
    r, s = (int(number, 16) for number in RFC_6979[message])
    low_s = min(s, int.from_bytes(ORDER["p256"]) - s)
    signing_key = SigningKey("p256", bytes.fromhex(RFC_6979_SECRET))
    assert signing_key.sign(message) == r.to_bytes(32) + low_s.to_bytes(32)


@pytest.mark.parametrize("message", K256_SECRET_1)
def test_k256_as_other_implementations_have_it(message: bytes) -> None:
    assert key("k256").sign(message).hex() == K256_SECRET_1[message]


@pytest.mark.parametrize("curve", CURVES)
def test_signatures_are_low_deterministic_and_verify(curve: Curve) -> None:
    """spec: D-02, D-03: of forty, half would have a high s by chance."""
    signing_key = key(curve, 7)
    for number in range(40):
        message = b"message %d" % number
        signature = signing_key.sign(message)
        assert len(signature) == SIGNATURE_BYTES
        assert signature[32:] <= HALF_ORDER[curve]
        assert signature == key(curve, 7).sign(message)
        signing_key.verifying_key.verify(message, signature)
        with pytest.raises(SignatureError) as refusal:
            key(curve, 8).verifying_key.verify(message, signature)
        assert refusal.value.reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize("curve", CURVES)
def test_a_secret_is_a_number_below_the_order(curve: Curve) -> None:
    order = int.from_bytes(ORDER[curve])
    assert key(curve, order - 1).sign(b"x")
    for secret in (bytes(32), ORDER[curve], b"\xff" * 32, bytes(31) + b"", b"\1" * 33):
        with pytest.raises(ValueError, match=f"order of {curve}"):
            SigningKey(curve, secret)


@pytest.mark.parametrize("curve", CURVES)
def test_a_commit_is_the_map_that_was_signed(curve: Curve) -> None:
    """spec: B-01…B-07: laid out by another codec, and read back."""
    signing_key = key(curve, 3)
    rev = Tid(wire.rev(1))
    commit = sign_commit(signing_key, DID, rev, DATA_CID)
    fields = {"did": DID, "version": 3, "data": link(DATA_CID), "rev": rev, "prev": None}
    assert commit.unsigned == dag_cbor(fields)
    assert commit.block == dag_cbor(fields | {"sig": commit.signature})
    assert parse_commit(commit.block) == commit
    signing_key.verifying_key.verify(commit.unsigned, commit.signature)


@pytest.mark.parametrize(
    "beginning", [b"\x01\x71\x12\x20", b"\x12\x20", b"\x01\x55\x12\x20"], ids=bytes.hex
)
def test_a_signature_that_begins_like_a_cid_stays_a_byte_string(beginning: bytes) -> None:
    layout = CommitLayout.of(DID, Tid(wire.rev(1)), DATA_CID, None)
    signature = beginning + hashlib.sha512(beginning).digest()[len(beginning) :]
    block = layout.signed(signature)
    assert b"\x63sig\x58\x40" + signature in block
    assert parse_commit(block).signature == signature
