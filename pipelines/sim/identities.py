"""Identities of generated accounts: signed PLC operations, documents, audit logs.

A did:plc is the hash of the signed operation that made it, so nobody can serve an identity under
it without having its keys. A did:web is the name of a host, which serves what it likes and keeps
no history. Source: https://web.plc.directory/spec/v0.1/did-plc; documents as plc.directory renders
them. spec: E-09, L-01…L-06, L-11
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from pipelines.atproto import cbor
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.keys import Curve, VerifyingKey, parse_did_key
from pipelines.atproto.signing import SigningKey
from pipelines.atproto.syntax import Did, Handle
from pipelines.identity.documents import PDS_TYPE
from pipelines.identity.operation import Form, parse_operation

_SUITE_CONTEXT: Final[dict[Curve, str]] = {
    "k256": "https://w3id.org/security/suites/secp256k1-2019/v1",
    "p256": "https://w3id.org/security/suites/ecdsa-2019/v1",
}


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A signed PLC operation and when the directory got it.

    Attributes:
        fields: the operation as JSON has it, with its signature.
        cid: its CID as text.
        created_at: the directory's clock, RFC 3339.
    """

    fields: Mapping[str, Any]
    cid: str
    created_at: str


@dataclass(frozen=True, slots=True)
class PlcIdentity:
    """A did:plc and its history.

    Attributes:
        did: the DID.
        entries: its operations, oldest first; none is ever nullified.
    """

    did: Did
    entries: tuple[DirectoryEntry, ...]

    @property
    def pds(self) -> str:
        """Origin of the account's server."""
        endpoint: str = self.entries[-1].fields["services"]["atproto_pds"]["endpoint"]
        return endpoint

    def with_handle(
        self, handle: Handle, rotation_key: SigningKey, created_at: str
    ) -> "PlcIdentity":
        """Returns the identity after an operation that names another handle."""
        return self._updated({"alsoKnownAs": [f"at://{handle}"]}, rotation_key, created_at)

    def with_signing_key(
        self, signing_key: VerifyingKey, rotation_key: SigningKey, created_at: str
    ) -> "PlcIdentity":
        """Returns the identity after an operation that names another signing key."""
        methods = {"verificationMethods": {"atproto": signing_key.did_key()}}
        return self._updated(methods, rotation_key, created_at)

    def moved(
        self, pds: str, signing_key: VerifyingKey, rotation_key: SigningKey, created_at: str
    ) -> "PlcIdentity":
        """Returns the identity after an operation that names another server and its key."""
        changes = {
            "verificationMethods": {"atproto": signing_key.did_key()},
            "services": _services(pds),
        }
        return self._updated(changes, rotation_key, created_at)

    def _updated(
        self, changes: Mapping[str, Any], rotation_key: SigningKey, created_at: str
    ) -> "PlcIdentity":
        last = self.entries[-1]
        fields = {**last.fields, **changes, "prev": last.cid}
        del fields["sig"]
        signed = _signed(fields, rotation_key)
        cid = encode_cid(parse_operation(signed).cid)
        return PlcIdentity(self.did, (*self.entries, DirectoryEntry(signed, cid, created_at)))

    @property
    def signing_key(self) -> VerifyingKey:
        """The key that the last operation names."""
        return parse_did_key(self.entries[-1].fields["verificationMethods"]["atproto"])

    def document(self) -> dict[str, Any]:
        """Returns the DID document that follows from the last operation."""
        fields = self.entries[-1].fields
        return _document(self.did, self.signing_key, fields["alsoKnownAs"], self.pds)

    def audit_log(self) -> list[dict[str, Any]]:
        """Returns what the directory answers under `/log/audit`."""
        return [
            {
                "did": self.did,
                "operation": dict(entry.fields),
                "cid": entry.cid,
                "nullified": False,
                "createdAt": entry.created_at,
            }
            for entry in self.entries
        ]


@dataclass(frozen=True, slots=True)
class WebIdentity:
    """A did:web: what its host serves now.

    Attributes:
        did: the DID.
        signing_key: what the account's commits are checked with.
        handle: the account's name.
        pds: origin of the account's server.
    """

    did: Did
    signing_key: VerifyingKey
    handle: Handle
    pds: str

    def with_handle(self, handle: Handle) -> "WebIdentity":
        """Returns the identity after its document was changed to name another handle."""
        return replace(self, handle=handle)

    def with_signing_key(self, signing_key: VerifyingKey) -> "WebIdentity":
        """Returns the identity after its document was changed to name another signing key."""
        return replace(self, signing_key=signing_key)

    def moved(self, pds: str) -> "WebIdentity":
        """Returns the identity after its document was changed to name another server."""
        return replace(self, pds=pds)

    def document(self) -> dict[str, Any]:
        """Returns the DID document."""
        return _document(self.did, self.signing_key, [f"at://{self.handle}"], self.pds)

    def audit_log(self) -> None:
        """There is none: nobody keeps a history of a did:web."""


AccountIdentity: TypeAlias = PlcIdentity | WebIdentity


def create_identity(
    signing_key: VerifyingKey,
    rotation_key: SigningKey,
    *,
    handle: Handle,
    pds: str,
    created_at: str,
) -> PlcIdentity:
    """Makes a DID by signing its genesis operation.

    Args:
        signing_key: what the account's commits are checked with.
        rotation_key: of the host; signs this operation and later ones.
        handle: the account's name.
        pds: origin of its host.
        created_at: the directory's clock, RFC 3339.
    """
    fields = {
        "type": Form.OPERATION,
        "rotationKeys": [rotation_key.verifying_key.did_key()],
        "verificationMethods": {"atproto": signing_key.did_key()},
        "alsoKnownAs": [f"at://{handle}"],
        "services": _services(pds),
        "prev": None,
    }
    signed = _signed(fields, rotation_key)
    operation = parse_operation(signed)
    entry = DirectoryEntry(signed, encode_cid(operation.cid), created_at)
    return PlcIdentity(operation.did(), (entry,))


def _services(pds: str) -> dict[str, Any]:
    return {"atproto_pds": {"type": PDS_TYPE, "endpoint": pds}}


def _signed(fields: Mapping[str, Any], rotation_key: SigningKey) -> dict[str, Any]:
    signature = rotation_key.sign(cbor.encode(fields))
    return {**fields, "sig": base64.urlsafe_b64encode(signature).rstrip(b"=").decode()}


def _document(
    did: Did, signing_key: VerifyingKey, names: Sequence[str], pds: str
) -> dict[str, Any]:
    return {
        "@context": [
            "https://www.w3.org/ns/did/v1",
            "https://w3id.org/security/multikey/v1",
            _SUITE_CONTEXT[signing_key.curve],
        ],
        "id": did,
        "alsoKnownAs": list(names),
        "verificationMethod": [
            {
                "id": f"{did}#atproto",
                "type": "Multikey",
                "controller": did,
                "publicKeyMultibase": signing_key.multikey(),
            }
        ],
        "service": [{"id": "#atproto_pds", "type": PDS_TYPE, "serviceEndpoint": pds}],
    }
