"""One operation of did:plc: its form, its bytes and hash, and who signed it.

An operation is a JSON object; what is hashed and signed is its DAG-CBOR form, for the signature
without the member `sig`. Three forms exist, each with exactly these members:

    plc_operation   type rotationKeys verificationMethods alsoKnownAs services prev sig
    plc_tombstone   type prev sig                   gives the DID up
    create          type signingKey recoveryKey handle service prev sig
                    the form before 2023, which only the first operation of a log may have

Implements "Operation Serialization, Signing, and Validation" of
https://web.plc.directory/spec/v0.1/did-plc. Pure. spec: L-02…L-06, L-09, L-10.

Always checked: form, size, encoding of the signature. Checked by `signer_index`: the signature.
Not checked: whether the operation may stand where it stands, which is `pipelines.identity.plc`;
the directory's limits on the numbers of keys, names and services, which are younger than some of
its operations. The size bounds them.
"""

import re
from base64 import b32encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from pipelines.atproto import cbor
from pipelines.atproto.cid import DAG_CBOR_PREFIX, cid_of, parse_cid
from pipelines.atproto.errors import (
    CidError,
    DagCborError,
    KeyFormatError,
    PlcError,
    Reason,
    SignatureError,
)
from pipelines.atproto.keys import SIGNATURE_BYTES, VerifyingKey, parse_did_key
from pipelines.atproto.syntax import Did, Handle
from pipelines.identity.documents import PDS_TYPE, claimed_handle, parse_pds

# The specification's bound on the signed operation, encoded. The directory in use once took as
# much as this; today it takes 4,000.
MAX_OPERATION_BYTES: Final = 7_500
# Servers sign for all their accounts with the same few keys. About half a kilobyte each.
_CACHED_KEYS_COUNT: Final = 8_192

_DID_BYTES: Final = 15  # of the hash: 24 characters of base32

_match_base64url = re.compile("[A-Za-z0-9_-]*").fullmatch


class Form(StrEnum):
    """The `type` of an operation."""

    OPERATION = "plc_operation"
    TOMBSTONE = "plc_tombstone"
    CREATE = "create"


# A key that cannot be used (malformed, or of another kind) is None: it signs nothing, but keeps
# its place.
RotationKeys: TypeAlias = tuple[VerifyingKey | None, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of proper form, whoever signed it.

    Attributes:
        form: which of the three.
        cid: raw CID of the signed operation.
        prev_cid: raw CID of the operation that it follows; None for the first of a log.
        rotation_keys: who may sign what follows, the most powerful key first. The list may be
            empty, and name a key twice.
        signing_key: what the account's commits are signed with from here on; None if there is no
            such key or it cannot be used.
        pds: origin of the account's server (`https://host[:port]`), or None.
        handle: the handle it claims, unproven, or None.
        unsigned: the bytes that are signed.
        signature: 64 bytes; whether they are in range is not known yet.
    """

    form: Form
    cid: bytes
    prev_cid: bytes | None
    rotation_keys: RotationKeys
    signing_key: VerifyingKey | None
    pds: str | None
    handle: Handle | None
    unsigned: bytes
    signature: bytes

    def did(self) -> Did:
        """Returns the DID that this operation makes if it is the first of a log."""
        digest = self.cid[len(DAG_CBOR_PREFIX) :]
        return Did(f"did:plc:{b32encode(digest[:_DID_BYTES]).decode().lower()}")

    def signer_index(self, rotation_keys: RotationKeys) -> int:
        """Finds out who signed the operation.

        Args:
            rotation_keys: who may have signed it, the most powerful key first.

        Returns:
            Position of the first key that the signature fits.

        Raises:
            PlcError: the signature fits none (`SIGNATURE_INVALID`), or it is malformed on the
                curve of one of them (`SIGNATURE_FORM`, `SIGNATURE_HIGH_S`).
        """
        refusal = PlcError(Reason.SIGNATURE_INVALID, "no key that may sign it did")
        for index, key in enumerate(rotation_keys):
            if key is None:
                continue
            try:
                key.verify(self.unsigned, self.signature)
            except SignatureError as error:
                # Ranges differ from curve to curve: a later key may still fit.
                if error.reason is not Reason.SIGNATURE_INVALID:
                    refusal = PlcError(error.reason, error.detail)
            else:
                return index
        raise refusal


class _Members(NamedTuple):
    """What the three forms have in common, as text."""

    form: Form
    prev: str | None
    signature: str
    rotation_keys: Sequence[str] = ()
    signing_key: str | None = None
    service: Mapping[str, str] | None = None
    names: Sequence[str] = ()


def parse_operation(value: object) -> Operation:
    """Reads an operation.

    Args:
        value: the decoded JSON.

    Returns:
        The operation, its signature not checked.

    Raises:
        PlcError: it has none of the three forms (`PLC_OPERATION`), is larger than
            `MAX_OPERATION_BYTES` (`PLC_TOO_LARGE`), or its signature is not strict base64url
            (`SIGNATURE_ENCODING`) or not 64 bytes (`SIGNATURE_FORM`).
    """
    members = _members(value)
    assert isinstance(value, dict)  # as it has a form
    try:
        signed = cbor.encode(value)
        unsigned = cbor.encode({name: value[name] for name in value if name != "sig"})
    except DagCborError as error:
        raise PlcError(Reason.PLC_OPERATION, f"it cannot be encoded: {error.detail}") from None
    # Before anything whose cost grows with the size.
    if len(signed) > MAX_OPERATION_BYTES:
        raise PlcError(
            Reason.PLC_TOO_LARGE,
            f"{len(signed)} bytes, of which an operation has at most {MAX_OPERATION_BYTES}",
        )
    signing_key, service = members.signing_key, members.service
    return Operation(
        form=members.form,
        cid=cid_of(signed),
        prev_cid=None if members.prev is None else _parse_prev(members.prev),
        rotation_keys=tuple(map(_rotation_key, members.rotation_keys)),
        signing_key=None if signing_key is None else _usable_key(signing_key),
        pds=None if service is None else parse_pds(service["type"], service["endpoint"]),
        handle=claimed_handle(members.names),
        unsigned=unsigned,
        signature=_parse_signature(members.signature),
    )


def _members(value: object) -> _Members:
    match value:
        case {
            "type": Form.OPERATION,
            "rotationKeys": list() as rotation_keys,
            "verificationMethods": dict() as methods,
            "alsoKnownAs": list() as names,
            "services": dict() as services,
            "prev": (str() | None) as prev,
            "sig": str() as signature,
            **others,
        } if (
            not others
            and _are_texts((*rotation_keys, *methods, *methods.values(), *names, *services))
            and all(map(_is_service, services.values()))
        ):
            return _Members(
                Form.OPERATION,
                prev,
                signature,
                rotation_keys,
                methods.get("atproto"),
                services.get("atproto_pds"),
                names,
            )
        case {
            "type": Form.TOMBSTONE,
            "prev": str() as prev,
            "sig": str() as signature,
            **others,
        } if not others:
            return _Members(Form.TOMBSTONE, prev, signature)
        case {
            "type": Form.CREATE,
            "signingKey": str() as signing_key,
            "recoveryKey": str() as recovery_key,
            "handle": str() as handle,
            "service": str() as endpoint,
            "prev": None,
            "sig": str() as signature,
            **others,
        } if not others:
            return _Members(
                Form.CREATE,
                None,
                signature,
                (recovery_key, signing_key),
                signing_key,
                {"type": PDS_TYPE, "endpoint": _with_scheme(endpoint)},
                (f"at://{handle.removeprefix('at://')}",),
            )
    raise PlcError(
        Reason.PLC_OPERATION,
        "it is no object with exactly the members of a plc_operation, plc_tombstone or create",
    )


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_service(value: object) -> bool:
    match value:
        case {"type": str(), "endpoint": str(), **others}:
            return not others
    return False


def _with_scheme(endpoint: str) -> str:
    return endpoint if endpoint.startswith(("http://", "https://")) else f"https://{endpoint}"


def _parse_prev(text: str) -> bytes:
    try:
        return parse_cid(text)
    except CidError as error:
        raise PlcError(Reason.PLC_OPERATION, f"prev: {error.detail}") from None


def _parse_signature(text: str) -> bytes:
    # Each other way to write the same bytes would be another operation with the same signature.
    if "=" in text:
        raise PlcError(Reason.SIGNATURE_ENCODING, "the signature is padded with =")
    if not _match_base64url(text) or len(text) % 4 == 1:
        raise PlcError(Reason.SIGNATURE_ENCODING, "the signature is not base64url")
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if urlsafe_b64encode(raw).decode().rstrip("=") != text:
        raise PlcError(
            Reason.SIGNATURE_ENCODING, "the signature's last character has bits that must be zero"
        )
    if len(raw) != SIGNATURE_BYTES:
        raise PlcError(
            Reason.SIGNATURE_FORM,
            f"a signature has {SIGNATURE_BYTES} bytes, this one {len(raw)}",
        )
    return raw


def _usable_key(text: str) -> VerifyingKey | None:
    try:
        return parse_did_key(text)
    except KeyFormatError:  # the directory accepts keys of any kind
        return None


@lru_cache(_CACHED_KEYS_COUNT)
def _rotation_key(text: str) -> VerifyingKey | None:
    return _usable_key(text)
