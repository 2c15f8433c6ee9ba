"""Made-up did:plc logs: operations that are really signed, with anything in them replaceable.

Independent of `pipelines.identity`: hashes and signatures are over what another codec writes.
"""

from base64 import b32encode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from support.oracle import cid_of, dag_cbor
from support.repo import P256_SIGNER, SIGNER, Signer

from pipelines.atproto.syntax import Did

Json = dict[str, Any]

# Who may sign, most powerful first, if a test does not say otherwise.
ROTATION = (SIGNER, P256_SIGNER)


def sign(unsigned: Mapping[str, Any], signer: Signer = SIGNER) -> Json:
    """Returns an operation with its signature."""
    signature = signer.sign(dag_cbor(dict(unsigned)))
    return {**unsigned, "sig": signature_text(signature)}


def signature_text(signature: bytes) -> str:
    return urlsafe_b64encode(signature).decode().rstrip("=")


def fields(prev: Json | None = None, rotation: Sequence[Signer] = ROTATION) -> Json:
    """Returns an operation without signature, like those that servers make."""
    return {
        "type": "plc_operation",
        "rotationKeys": [signer.key.did_key() for signer in rotation],
        "verificationMethods": {"atproto": SIGNER.key.did_key()},
        "alsoKnownAs": ["at://alice.example.com"],
        "services": {
            "atproto_pds": {
                "type": "AtprotoPersonalDataServer",
                "endpoint": "https://pds.example.com",
            }
        },
        "prev": None if prev is None else cid_text(prev),
    }


def operation(
    prev: Json | None = None,
    signer: Signer = SIGNER,
    rotation: Sequence[Signer] = ROTATION,
    **changes: Any,
) -> Json:
    """Returns a signed operation.

    Args:
        prev: the operation that it follows; None for the first one.
        signer: who signs it.
        rotation: who may sign what follows.
        changes: members that are different from the usual ones.
    """
    return sign(fields(prev, rotation) | changes, signer)


def with_key(signing_key: object, prev: Json | None = None) -> Json:
    """Returns an operation that makes a key the account's."""
    return operation(prev, verificationMethods={"atproto": signing_key})


def tombstone(prev: Json, signer: Signer = SIGNER) -> Json:
    return sign({"type": "plc_tombstone", "prev": cid_text(prev)}, signer)


def create(**changes: Any) -> Json:
    """Returns a first operation in the form before 2023."""
    unsigned = {
        "type": "create",
        "signingKey": SIGNER.key.did_key(),
        "recoveryKey": P256_SIGNER.key.did_key(),
        "handle": "alice.example.com",
        "service": "https://pds.example.com",
        "prev": None,
    }
    return sign(unsigned | changes)


def cid_text(signed: Json) -> str:
    return "b" + b32encode(cid_of(dag_cbor(signed))).decode().rstrip("=").lower()


def did_of(first: Json) -> Did:
    """Returns the DID that a first operation makes."""
    digest = sha256(dag_cbor(first)).digest()
    return Did("did:plc:" + b32encode(digest).decode().lower()[:24])


def entry(hour: float, signed: Json, did: Did, **changes: Any) -> Json:
    """Returns an operation as the directory lists it.

    Args:
        hour: when it came, in hours from the start of 2026.
        signed: the operation.
        did: whose it is.
        changes: members that are different.
    """
    milliseconds = round(hour * 3_600_000)
    seconds, milliseconds = divmod(milliseconds, 1_000)
    day, seconds = divmod(seconds, 86_400)
    minutes, seconds = divmod(seconds, 60)
    time = f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{milliseconds:03}"
    return {
        "did": did,
        "operation": signed,
        "cid": cid_text(signed),
        "nullified": False,
        "createdAt": f"2026-01-{day + 1:02}T{time}Z",
    } | changes


def log_of(*operations: Json) -> list[Json]:
    """Returns a log of operations, an hour between each, the first of which makes the DID."""
    did = did_of(operations[0])
    return [entry(hour, signed, did) for hour, signed in enumerate(operations)]
