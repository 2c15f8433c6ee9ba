"""Published vectors for keys and signatures: interop/crypto (spec: D-01 to D-08)."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from multiformats import multibase

from pipelines.atproto import keys
from pipelines.atproto.errors import Reason, SignatureError

pytestmark = pytest.mark.shared

_CURVE_OF_SUITE: dict[str, keys.Curve] = {
    "EcdsaSecp256k1VerificationKey2019": "k256",
    "EcdsaSecp256r1VerificationKey2019": "p256",
}
_REASON_OF_TAG = {"high-s": Reason.SIGNATURE_HIGH_S, "der-encoded": Reason.SIGNATURE_FORM}


def _load(shared_data: Path, name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(
        (shared_data / "interop" / "crypto" / name).read_bytes()
    )
    return cases


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def test_signature_fixtures_verify_or_fail_with_their_reason(shared_data: Path) -> None:
    cases = _load(shared_data, "signature-fixtures.json")
    assert len(cases) == 6
    for case in cases:
        key = keys.parse_did_key(case["publicKeyDid"])
        message, signature = _unpadded(case["messageBase64"]), _unpadded(case["signatureBase64"])
        if case["validSignature"]:
            key.verify(message, signature)
            continue
        with pytest.raises(SignatureError) as refusal:
            key.verify(message, signature)
        assert [refusal.value.reason] == [_REASON_OF_TAG[tag] for tag in case["tags"]]


def test_legacy_form_of_the_fixtures_gives_the_same_key(shared_data: Path) -> None:
    for case in _load(shared_data, "signature-fixtures.json"):
        curve = _CURVE_OF_SUITE[case["didDocSuite"]]
        key = keys.parse_did_key(case["publicKeyDid"])
        assert key == keys.parse_legacy_key(curve, case["publicKeyMultibase"])
        assert key.did_key() == case["publicKeyDid"]


@pytest.mark.parametrize(
    ("name", "curve", "count"),
    [("w3c_didkey_K256.json", "k256", 5), ("w3c_didkey_P256.json", "p256", 1)],
)
def test_private_keys_give_their_did_key(
    shared_data: Path, name: str, curve: keys.Curve, count: int
) -> None:
    cases = _load(shared_data, name)
    assert len(cases) == count
    for case in cases:
        if "privateKeyBytesHex" in case:
            secret = bytes.fromhex(case["privateKeyBytesHex"])
        else:
            secret = multibase.decode("z" + case["privateKeyBytesBase58"])
        library_curve = ec.SECP256K1() if curve == "k256" else ec.SECP256R1()
        public = ec.derive_private_key(int.from_bytes(secret), library_curve).public_key()
        key = keys.VerifyingKey(
            curve, public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        )
        assert key.did_key() == case["publicDidKey"]
        assert keys.parse_did_key(case["publicDidKey"]) == key
