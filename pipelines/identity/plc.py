"""PLC audit logs: which signing key a did:plc account had at a given time.

Reads what the directory serves under `/<did>/log/audit`, as
https://web.plc.directory/spec/v0.1/did-plc describes it ("Audit Logs"). Pure: the log is a
decoded JSON value.

The directory is trusted for what it says about an operation: its time of arrival and whether a
later one made it void (`nullified`). Not checked: signatures and hashes of the operations, and the
rules by which one operation makes others void.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.atproto.errors import IdentifierError, IdentityError, KeyFormatError, Reason
from pipelines.atproto.keys import VerifyingKey, parse_did_key
from pipelines.atproto.syntax import Did, parse_datetime


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What one operation says about the signing key.

    Attributes:
        created_us: when the directory received it, microseconds since the epoch.
        signing_key: the key from then on; None if the account is then gone or its key unusable.
    """

    created_us: int
    signing_key: VerifyingKey | None


# The operations of one DID that count, in the directory's order, which is that of their chain.
# Never empty: the first one made the DID.
AuditLog = tuple[KeyChange, ...]


def parse_audit_log(did: Did, log: object) -> AuditLog:
    """Reads an audit log.

    Args:
        did: the DID whose log was asked for.
        log: the decoded JSON: a list of `{did, operation, cid, nullified, createdAt}`.

    Returns:
        The operations that were not made void by a later one.

    Raises:
        IdentityError: it is not an audit log, or that of another DID (`IDENTITY_LOG`).
    """
    if not isinstance(log, list):
        raise _malformed(did, "it is not a list")
    changes = [_parse_entry(did, position, entry) for position, entry in enumerate(log)]
    if not changes or changes[0] is None:
        raise _malformed(did, "it has no first operation")
    return tuple(change for change in changes if change is not None)


def key_at(audit_log: AuditLog, time_us: int) -> VerifyingKey | None:
    """Finds the signing key that was current at a time.

    Args:
        audit_log: the account's log.
        time_us: microseconds since the epoch.

    Returns:
        The key, or None if there was no usable one at that time. Before the first operation it is
        that operation's key: the DID is the operation's hash, so both exist before the directory
        receives them, and servers sign an account's first commit in between.
    """
    current = audit_log[0].signing_key
    for change in audit_log[1:]:
        if change.created_us <= time_us:
            current = change.signing_key
    return current


def _parse_entry(did: Did, position: int, entry: object) -> KeyChange | None:
    if not isinstance(entry, Mapping) or entry.get("did") != did:
        raise _malformed(did, f"entry {position} is not one of this DID")
    nullified, operation = entry.get("nullified"), entry.get("operation")
    if not isinstance(nullified, bool) or not isinstance(operation, Mapping):
        raise _malformed(did, f"entry {position} lacks its operation or its state")
    try:
        created_us = parse_datetime(entry.get("createdAt"))
    except IdentifierError as error:
        raise _malformed(did, f"createdAt of entry {position} is {error.detail}") from None
    return None if nullified else KeyChange(created_us, _signing_key(did, position, operation))


def _signing_key(did: Did, position: int, operation: Mapping[str, Any]) -> VerifyingKey | None:
    match operation:
        case {"type": "plc_operation", "verificationMethods": Mapping() as methods}:
            text = methods.get("atproto")
        case {"type": "create", "signingKey": text}:  # the form before 2023, first in its log
            pass
        case {"type": "plc_tombstone"}:
            return None
        case _:
            raise _malformed(did, f"the operation of entry {position} is of no known type")
    try:
        return parse_did_key(text)
    except KeyFormatError:  # the directory accepts any did:key, also of curves we cannot use
        return None


def _malformed(did: Did, detail: str) -> IdentityError:
    return IdentityError(Reason.IDENTITY_LOG, f"malformed PLC audit log: {detail}", did=did)
