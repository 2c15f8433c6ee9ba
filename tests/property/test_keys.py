"""Keys and signatures over generated input: what holds for every one."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from multiformats import multibase, multicodec

from pipelines.atproto import keys
from pipelines.atproto.errors import KeyFormatError, Reason, SignatureError

_ORDERS: dict[keys.Curve, int] = {
    "k256": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    "p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
}
_CURVES = st.sampled_from(list(_ORDERS))


@st.composite
def _signed(draw: st.DrawFn) -> tuple[keys.VerifyingKey, bytes, bytes]:
    """A key, a message and the key's signature, made by another library than the one tested."""
    curve = draw(_CURVES)
    secret = draw(st.integers(min_value=1, max_value=_ORDERS[curve] - 1))
    message = draw(st.binary(max_size=300))
    private = ec.derive_private_key(secret, ec.SECP256K1() if curve == "k256" else ec.SECP256R1())
    r, s = decode_dss_signature(private.sign(message, ec.ECDSA(SHA256())))
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    signature = r.to_bytes(32) + min(s, _ORDERS[curve] - s).to_bytes(32)
    return keys.VerifyingKey(curve, point), message, signature


@settings(max_examples=50)
@given(signed=_signed(), bit=st.integers(min_value=0))
def test_a_flipped_bit_in_signature_or_message_is_refused(
    signed: tuple[keys.VerifyingKey, bytes, bytes], bit: int
) -> None:
    """Spec: D-01 to D-04."""
    key, message, signature = signed
    key.verify(message, signature)
    damaged = bytearray(signature + message)
    bit %= len(damaged) * 8
    damaged[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(SignatureError):
        key.verify(bytes(damaged[64:]), bytes(damaged[:64]))


@settings(max_examples=50)
@given(signed=_signed(), signature=st.binary(max_size=80))
def test_any_bytes_as_signature_are_refused(
    signed: tuple[keys.VerifyingKey, bytes, bytes], signature: bytes
) -> None:
    key, message, _ = signed
    with pytest.raises(SignatureError):
        key.verify(message, signature)


@settings(max_examples=50)
@given(signed=_signed())
def test_text_forms_lead_back_to_the_key(
    signed: tuple[keys.VerifyingKey, bytes, bytes],
) -> None:
    """Spec: D-06."""
    key, _, _ = signed
    assert keys.parse_did_key(key.did_key()) == key
    codec = "secp256k1-pub" if key.curve == "k256" else "p256-pub"
    wrapped = multicodec.wrap(codec, key.compressed)
    assert key.multikey() == multibase.encode(wrapped, "base58btc")
    assert keys.VerifyingKey(key.curve, key.compressed) == key


@given(curve=_CURVES, point=st.one_of(st.binary(max_size=70), st.binary(min_size=33, max_size=33)))
def test_any_bytes_are_a_key_or_invalid(curve: keys.Curve, point: bytes) -> None:
    outcome = _outcome(lambda: keys.VerifyingKey(curve, point))
    if isinstance(outcome, keys.VerifyingKey):
        assert outcome.compressed == point
    else:
        assert outcome is Reason.KEY_INVALID


@given(
    text=st.one_of(
        st.none(),
        st.binary(),
        st.text(),
        st.text(alphabet="z123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxy"),
    ),
    curve=_CURVES,
)
def test_any_text_is_a_key_or_refused_with_a_reason(text: object, curve: keys.Curve) -> None:
    """Spec: D-09."""
    prefixed = f"z{text}" if isinstance(text, str) else text
    for outcome in (
        _outcome(lambda: keys.parse_multikey(prefixed)),
        _outcome(lambda: keys.parse_legacy_key(curve, prefixed)),
        _outcome(lambda: keys.parse_did_key(text)),
        _outcome(lambda: keys.parse_did_key(f"did:key:{prefixed}")),
    ):
        if isinstance(outcome, keys.VerifyingKey):
            assert keys.parse_multikey(outcome.multikey()) == outcome
        else:
            assert outcome in {Reason.KEY_INVALID, Reason.KEY_UNSUPPORTED}


def _outcome(parse: Callable[[], keys.VerifyingKey]) -> keys.VerifyingKey | Reason:
    try:
        return parse()
    except KeyFormatError as error:
        return error.reason
