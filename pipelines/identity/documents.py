"""DID documents: the signing key, the PDS and the handle that an account claims.

Implements "DID Documents" of https://atproto.com/specs/did for documents as the PLC directory and
did:web hosts serve them, in today's form (`Multikey`) and the older one (2019 types). Pure: the
document is a decoded JSON value.

Not checked: whether the handle points back at the DID, whether the PDS may be connected to.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipelines.atproto.errors import (
    IdentifierError,
    IdentityError,
    KeyFormatError,
    Reason,
)
from pipelines.atproto.keys import Curve, VerifyingKey, parse_legacy_key, parse_multikey
from pipelines.atproto.syntax import Did, Handle, parse_handle
from pipelines.identity.names import is_public_name

_CURVE_OF_LEGACY_TYPE: Final[Mapping[str, Curve]] = {
    "EcdsaSecp256k1VerificationKey2019": "k256",
    "EcdsaSecp256r1VerificationKey2019": "p256",
}
PDS_TYPE: Final = "AtprotoPersonalDataServer"

# Scheme, host and port only. A lone slash at the end is the same place and is dropped.
_match_endpoint = re.compile(
    r"((https?)://([a-zA-Z0-9.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\])(?::[0-9]{1,5})?)/?"
).fullmatch


@dataclass(frozen=True, slots=True)
class Identity:
    """What an account's DID document says.

    Attributes:
        did: the account.
        signing_key: the key its commits are signed with; None if the document has no usable one.
        pds: origin of the account's server (`https://host[:port]`), or None.
        handle: the handle it claims, unproven, or None.
    """

    did: Did
    signing_key: VerifyingKey | None
    pds: str | None
    handle: Handle | None

    def require_key(self) -> VerifyingKey:
        """Returns the signing key.

        Raises:
            IdentityError: the document has no usable one (`IDENTITY_NO_KEY`).
        """
        if self.signing_key is None:
            raise IdentityError(
                Reason.IDENTITY_NO_KEY, "the DID document has no usable signing key", did=self.did
            )
        return self.signing_key


def parse_document(did: Did, document: object) -> Identity:
    """Reads a DID document.

    Entries of a list that are malformed or of another kind are passed over: the first *valid*
    one counts, as the specification says.

    Args:
        did: the DID whose document was asked for.
        document: the decoded JSON.

    Returns:
        The identity; a part that the document lacks is None.

    Raises:
        IdentityError: it is not a DID document, or that of another DID (`IDENTITY_DOCUMENT`).
    """
    if not isinstance(document, Mapping):
        raise IdentityError(
            Reason.IDENTITY_DOCUMENT, "the DID document is not a JSON object", did=did
        )
    if document.get("id") != did:
        raise IdentityError(
            Reason.IDENTITY_DOCUMENT, "the document's id is not the DID asked for", did=did
        )
    return Identity(
        did=did,
        signing_key=_signing_key(did, document),
        pds=_pds(did, document),
        handle=claimed_handle(document.get("alsoKnownAs")),
    )


def parse_pds(service_type: object, endpoint: object) -> str | None:
    """Reads where an account's server is.

    Args:
        service_type: the `type` of the service.
        endpoint: its URL: scheme, host and port, nothing else. Unencrypted only on a host of
            one's own, for development. spec: E-04.

    Returns:
        The server's origin, `https://host[:port]`; None if the service is of another type or its
        URL has another form.
    """
    if service_type != PDS_TYPE or not isinstance(endpoint, str):
        return None
    match = _match_endpoint(endpoint)
    if match is None or (match[2] == "http" and is_public_name(match[3])):
        return None
    return match[1]


def claimed_handle(names: object) -> Handle | None:
    """Finds the handle that an account claims: the first of proper form. spec: E-05.

    Args:
        names: the `alsoKnownAs` of its document or its operation.
    """
    for name in names if isinstance(names, list | tuple) else ():
        if isinstance(name, str) and name.startswith("at://"):
            try:
                return parse_handle(name.removeprefix("at://"))
            except IdentifierError:
                continue
    return None


def _signing_key(did: Did, document: Mapping[str, Any]) -> VerifyingKey | None:
    for method in _entries(did, document, "verificationMethod", "#atproto"):
        if method.get("controller") != did:
            continue
        text = method.get("publicKeyMultibase")
        try:
            match method.get("type"):
                case "Multikey":
                    return parse_multikey(text)
                case str(legacy) if legacy in _CURVE_OF_LEGACY_TYPE:
                    return parse_legacy_key(_CURVE_OF_LEGACY_TYPE[legacy], text)
        except KeyFormatError:
            continue
    return None


def _pds(did: Did, document: Mapping[str, Any]) -> str | None:
    for service in _entries(did, document, "service", "#atproto_pds"):
        if pds := parse_pds(service.get("type"), service.get("serviceEndpoint")):
            return pds
    return None


def _entries(
    did: Did, document: Mapping[str, Any], member: str, fragment: str
) -> Iterator[Mapping[str, Any]]:
    """Yields the entries of a list whose id is the fragment, relative or behind the DID."""
    entries = document.get(member)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, Mapping) and entry.get("id") in (fragment, did + fragment):
            yield entry
