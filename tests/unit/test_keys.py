"""Keys and signatures: what is refused, and with which reason."""

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from multiformats import multibase, multicodec

from pipelines.atproto import keys
from pipelines.atproto.errors import KeyFormatError, Reason, SignatureError

_ORDERS: dict[keys.Curve, int] = {
    "k256": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    "p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
}
_CURVES: list[keys.Curve] = ["k256", "p256"]
_MESSAGE = b"a commit without its signature"


def _private_key(curve: keys.Curve) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(
        int.from_bytes(hashlib.sha256(curve.encode()).digest()),
        ec.SECP256K1() if curve == "k256" else ec.SECP256R1(),
    )


def _point(curve: keys.Curve, *, compressed: bool = True) -> bytes:
    form = PublicFormat.CompressedPoint if compressed else PublicFormat.UncompressedPoint
    return _private_key(curve).public_key().public_bytes(Encoding.X962, form)


def _key(curve: keys.Curve) -> keys.VerifyingKey:
    return keys.VerifyingKey(curve, _point(curve))


def _low_s(curve: keys.Curve) -> tuple[int, int]:
    r, s = decode_dss_signature(_private_key(curve).sign(_MESSAGE, ec.ECDSA(SHA256())))
    return r, min(s, _ORDERS[curve] - s)


def _signature(r: int, s: int) -> bytes:
    return r.to_bytes(32) + s.to_bytes(32)


def _base58btc(raw: bytes) -> str:
    return multibase.encode(raw, "base58btc")


def _reason(call: Callable[[], object]) -> Reason:
    with pytest.raises((KeyFormatError, SignatureError)) as refusal:
        call()
    return refusal.value.reason


_MULTIKEY = _key("k256").multikey()


@pytest.mark.parametrize("curve", _CURVES)
def test_a_signature_made_elsewhere_verifies(curve: keys.Curve) -> None:
    """Spec: D-01, D-02."""
    _key(curve).verify(_MESSAGE, _signature(*_low_s(curve)))


@pytest.mark.parametrize("curve", _CURVES)
def test_another_message_or_another_key_does_not_verify(curve: keys.Curve) -> None:
    """Spec: D-01."""
    signature = _signature(*_low_s(curve))
    other = ec.derive_private_key(7, _private_key(curve).curve).public_key()
    other_key = keys.VerifyingKey(
        curve, other.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    )
    key = _key(curve)
    invalid = Reason.SIGNATURE_INVALID
    assert _reason(lambda: key.verify(_MESSAGE + b"!", signature)) is invalid
    assert _reason(lambda: other_key.verify(_MESSAGE, signature)) is invalid


@pytest.mark.parametrize("curve", _CURVES)
def test_high_s_is_told_apart_from_a_wrong_signature(curve: keys.Curve) -> None:
    """Spec: D-03, M-14."""
    r, s = _low_s(curve)
    high = _signature(r, _ORDERS[curve] - s)
    assert _reason(lambda: _key(curve).verify(_MESSAGE, high)) is Reason.SIGNATURE_HIGH_S


@pytest.mark.parametrize("curve", _CURVES)
def test_the_highest_low_s_is_not_called_high(curve: keys.Curve) -> None:
    """Spec: D-03: s = n >> 1 is still low, the next number is not."""
    key, half = _key(curve), _ORDERS[curve] >> 1
    assert _reason(lambda: key.verify(_MESSAGE, _signature(1, half))) is Reason.SIGNATURE_INVALID
    above = _signature(1, half + 1)
    assert _reason(lambda: key.verify(_MESSAGE, above)) is Reason.SIGNATURE_HIGH_S


@pytest.mark.parametrize("curve", _CURVES)
@pytest.mark.parametrize("length", [0, 1, 63, 65, 70, 72])
def test_only_64_bytes_are_a_signature(curve: keys.Curve, length: int) -> None:
    """Spec: D-02."""
    signature = (_signature(*_low_s(curve)) + bytes(8))[:length]
    assert _reason(lambda: _key(curve).verify(_MESSAGE, signature)) is Reason.SIGNATURE_FORM


@pytest.mark.parametrize("curve", _CURVES)
def test_r_and_s_outside_the_group_are_malformed(curve: keys.Curve) -> None:
    """Spec: D-03: 1 <= r, s < n."""
    key, order = _key(curve), _ORDERS[curve]
    for r, s in [(0, 1), (1, 0), (order, 1), (1, order), ((1 << 256) - 1, 1)]:
        signature = _signature(r, s)
        with pytest.raises(SignatureError) as refusal:
            key.verify(_MESSAGE, signature)
        assert refusal.value.reason is Reason.SIGNATURE_FORM


@pytest.mark.parametrize("curve", _CURVES)
def test_every_text_form_gives_the_same_key(curve: keys.Curve) -> None:
    """Spec: D-06, D-08."""
    key = _key(curve)
    assert keys.parse_did_key(key.did_key()) == key
    assert keys.parse_multikey(key.multikey()) == key
    assert keys.parse_legacy_key(curve, _base58btc(_point(curve))) == key
    assert keys.parse_legacy_key(curve, _base58btc(_point(curve, compressed=False))) == key


@pytest.mark.parametrize("curve", _CURVES)
def test_an_uncompressed_point_keeps_its_side_of_the_curve(curve: keys.Curve) -> None:
    """Spec: D-08: whether y is odd is all that the compressed form says of it."""
    library_curve = ec.SECP256K1() if curve == "k256" else ec.SECP256R1()
    first_bytes = set()
    for secret in range(1, 9):
        public = ec.derive_private_key(secret, library_curve).public_key()
        point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        expected = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        assert keys.parse_legacy_key(curve, _base58btc(point)).compressed == expected
        first_bytes.add(expected[0])
    assert first_bytes == {2, 3}


def test_multikeys_start_as_the_specification_says() -> None:
    """Spec: D-06."""
    assert _key("k256").did_key().startswith("did:key:zQ3sh")
    assert _key("p256").did_key().startswith("did:key:zDnae")


@pytest.mark.parametrize("curve", _CURVES)
def test_a_multikey_holds_a_compressed_point_only(curve: keys.Curve) -> None:
    """Spec: D-07."""
    codec = "secp256k1-pub" if curve == "k256" else "p256-pub"
    text = _base58btc(multicodec.wrap(codec, _point(curve, compressed=False)))
    assert _reason(lambda: keys.parse_multikey(text)) is Reason.KEY_INVALID


@pytest.mark.parametrize("curve", _CURVES)
def test_points_off_the_curve_are_refused(curve: keys.Curve) -> None:
    """Spec: D-07."""
    uncompressed = bytearray(_point(curve, compressed=False))
    uncompressed[64] ^= 1
    moved = _base58btc(bytes(uncompressed))
    assert _reason(lambda: keys.parse_legacy_key(curve, moved)) is Reason.KEY_INVALID
    beyond_the_field = b"\x02" + b"\xff" * 32
    assert _reason(lambda: keys.VerifyingKey(curve, beyond_the_field)) is Reason.KEY_INVALID


@pytest.mark.parametrize("curve", _CURVES)
@pytest.mark.parametrize("first_byte", [0, 1, 4, 5, 6, 7])
def test_only_2_and_3_start_a_compressed_point(curve: keys.Curve, first_byte: int) -> None:
    """Spec: D-07."""
    point = bytes([first_byte]) + _point(curve)[1:]
    assert _reason(lambda: keys.VerifyingKey(curve, point)) is Reason.KEY_INVALID


@pytest.mark.parametrize("curve", _CURVES)
@pytest.mark.parametrize("point", [b"", b"\x00", bytes(33), bytes(65)], ids=len)
def test_the_point_at_infinity_is_no_key(curve: keys.Curve, point: bytes) -> None:
    """Spec: D-07."""
    text = _base58btc(point)
    assert _reason(lambda: keys.VerifyingKey(curve, point)) is Reason.KEY_INVALID
    assert _reason(lambda: keys.parse_legacy_key(curve, text)) is Reason.KEY_INVALID


@pytest.mark.parametrize("curve", _CURVES)
def test_hybrid_points_are_refused(curve: keys.Curve) -> None:
    """Spec: D-08: libsecp256k1 would take 06 and 07 as the first byte of 65."""
    point = _point(curve, compressed=False)
    hybrid = _base58btc(bytes([6 + (point[64] & 1)]) + point[1:])
    assert _reason(lambda: keys.parse_legacy_key(curve, hybrid)) is Reason.KEY_INVALID


def test_keys_of_other_kinds_are_unsupported_rather_than_malformed() -> None:
    """Spec: L-10."""
    ed25519 = _base58btc(multicodec.wrap("ed25519-pub", bytes(32)))
    rsa_4096 = _base58btc(multicodec.wrap("rsa-pub", b"\x30" * 526))
    unassigned = _base58btc(b"\xff\xff\x7f" + bytes(32))
    for text in (ed25519, rsa_4096, unassigned):
        with pytest.raises(KeyFormatError) as refusal:
            keys.parse_multikey(text)
        assert refusal.value.reason is Reason.KEY_UNSUPPORTED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "z",
        _MULTIKEY[1:],
        f" {_MULTIKEY}",
        f"{_MULTIKEY}\n",
        f"{_MULTIKEY} ",
        f"{_MULTIKEY[:9]} {_MULTIKEY[9:]}",
        f"{_MULTIKEY[:9]}0{_MULTIKEY[10:]}",
        f"{_MULTIKEY[:9]}O{_MULTIKEY[10:]}",
        f"{_MULTIKEY[:9]}é{_MULTIKEY[10:]}",
        f"Z{_MULTIKEY[1:]}",
        "z" + "9" * 2_000,
        _MULTIKEY.encode(),
        None,
    ],
)
def test_base58_is_read_strictly(text: object) -> None:
    """Spec: D-09."""
    assert _reason(lambda: keys.parse_multikey(text)) is Reason.KEY_INVALID


def test_a_text_longer_than_any_key_is_not_decoded() -> None:
    details = []
    for length in (keys.MAX_KEY_TEXT_LENGTH, keys.MAX_KEY_TEXT_LENGTH + 1):
        with pytest.raises(KeyFormatError) as refusal:
            keys.parse_multikey("z" + "9" * (length - 1))
        details.append(refusal.value.detail)
    assert keys.MAX_KEY_TEXT_LENGTH == 1_024
    assert "multicodec" in details[0]
    assert details[1] == "1025 characters, of which a key has at most 1024"


@pytest.mark.parametrize("text", [f"z1{_MULTIKEY[1:]}", _MULTIKEY[:-1], f"{_MULTIKEY}1"])
def test_a_multikey_with_a_character_more_or_less_is_refused(text: str) -> None:
    """Spec: D-06: the digits move, so the codec may seem to be another one."""
    refusals = {Reason.KEY_INVALID, Reason.KEY_UNSUPPORTED}
    assert _reason(lambda: keys.parse_multikey(text)) in refusals


def test_a_codec_is_read_in_its_shortest_form_only() -> None:
    """Spec: D-06."""
    padded = _base58btc(b"\xe7\x81\x00" + _point("k256"))
    assert _reason(lambda: keys.parse_multikey(padded)) is Reason.KEY_INVALID


@pytest.mark.parametrize("text", ["zQ3sh", "DID:KEY:z", "did:plc:abc", "did:key:", None, b"", 7])
def test_a_did_key_starts_with_its_method(text: object) -> None:
    assert _reason(lambda: keys.parse_did_key(text)) is Reason.KEY_INVALID


@pytest.mark.parametrize("curve", _CURVES)
def test_a_key_survives_pickling(curve: keys.Curve) -> None:
    copy = pickle.loads(pickle.dumps(_key(curve)))
    assert copy == _key(curve)
    copy.verify(_MESSAGE, _signature(*_low_s(curve)))


def test_a_key_is_a_value() -> None:
    key = _key("k256")
    with pytest.raises(FrozenInstanceError):
        key.curve = "p256"  # type: ignore[misc]
    assert repr(key) == f"VerifyingKey(curve='k256', compressed={key.compressed!r})"
    assert not hasattr(key, "__dict__")  # small, as there are millions
