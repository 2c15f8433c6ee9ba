"""What is known of an identity, and its form in the topic `identities` (schema: `schemas/json`).

An entry says what the DID document said, or the newest operation of the directory, and of which
moment that is (`as_of_us`). Whoever learns of a change writes one: a worker that asked for the
document, an import of the directory's export. Readers keep the newest, whoever wrote it. Pure.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import orjson

from pipelines.atproto.errors import IdentityError, KeyFormatError, Reason
from pipelines.atproto.keys import VerifyingKey, parse_did_key
from pipelines.atproto.syntax import Did, Handle
from pipelines.identity.documents import Identity


class Origin(StrEnum):
    """What an entry was made from."""

    DOCUMENT = "document"  # the DID document, asked for at its directory or host
    OPERATION = "operation"  # an operation in the directory's export


@dataclass(frozen=True, slots=True)
class IdentityEntry:
    """What is known of an identity.

    Attributes:
        did: the account.
        signing_key: what its commits are signed with; None if it has no usable one.
        pds: origin of the account's server (`https://host[:port]`), or None.
        handle: the handle it claims, unproven, or None.
        reason: why there is no key: the stable name of a reason (`identity.…`); None if there is.
        origin: what this was made from.
        source: who said it: base URL of the directory or host.
        as_of_us: the moment whose state this is, microseconds since the epoch: when the directory
            received the operation, or when the document was asked for.
        seq: the operation's sequence number in the directory's export, or None.
        fetched_us: when we learned of it, microseconds since the epoch.
        is_stale: whether the account announced a change since, so that it must be asked for again.
    """

    did: Did
    signing_key: VerifyingKey | None
    pds: str | None
    handle: Handle | None
    reason: str | None
    origin: Origin
    source: str
    as_of_us: int
    seq: int | None
    fetched_us: int
    is_stale: bool = False

    def require_key(self) -> VerifyingKey:
        """Returns the signing key.

        Raises:
            IdentityError: there is none, for the entry's reason.
        """
        if self.signing_key is None:
            assert self.reason is not None
            raise IdentityError(
                Reason(self.reason), "the account has no usable signing key", did=self.did
            )
        return self.signing_key

    def supersedes(self, known: "IdentityEntry | None") -> bool:
        """Tells whether this is at least as new as what is known of the same DID."""
        return known is None or self.as_of_us >= known.as_of_us


def entry_of_document(identity: Identity, source: str, asked_us: int) -> IdentityEntry:
    """Returns the entry of a document that was fetched.

    Args:
        identity: what it says.
        source: base URL of where it was.
        asked_us: when it was asked for, microseconds since the epoch.
    """
    return IdentityEntry(
        did=identity.did,
        signing_key=identity.signing_key,
        pds=identity.pds,
        handle=identity.handle,
        reason=None if identity.signing_key is not None else Reason.IDENTITY_NO_KEY,
        origin=Origin.DOCUMENT,
        source=source,
        as_of_us=asked_us,
        seq=None,
        fetched_us=asked_us,
    )


def entry_of_refusal(error: IdentityError, did: Did, source: str, asked_us: int) -> IdentityEntry:
    """Returns the entry of a DID that has no identity, as its directory or host says.

    Args:
        error: why.
        did: the account.
        source: base URL of who was asked.
        asked_us: when, microseconds since the epoch.
    """
    nothing = entry_of_document(Identity(did, None, None, None), source, asked_us)
    return replace(nothing, reason=error.reason)


def stale(entry: IdentityEntry) -> IdentityEntry:
    """Returns the entry after its account announced a change."""
    return replace(entry, is_stale=True)


def encode_entry(entry: IdentityEntry) -> bytes:
    """Returns the message value of an entry: JSON, version 1."""
    key = entry.signing_key
    return orjson.dumps(
        {
            "did": entry.did,
            "signing_key": None if key is None else key.did_key(),
            "pds": entry.pds,
            "handle": entry.handle,
            "reason": entry.reason,
            "origin": entry.origin,
            "source": entry.source,
            "as_of_us": entry.as_of_us,
            "seq": entry.seq,
            "fetched_us": entry.fetched_us,
            "stale": entry.is_stale,
        }
    )


def parse_entry(value: bytes) -> IdentityEntry:
    """Takes a message value apart.

    Args:
        value: JSON, version 1.

    Raises:
        ValueError: it is of another shape, which a newer version may have written.
    """
    try:
        fields = orjson.loads(value)
        key = fields["signing_key"]
        return IdentityEntry(
            did=Did(fields["did"]),
            signing_key=None if key is None else parse_did_key(key),
            pds=fields["pds"],
            handle=fields["handle"],
            reason=fields["reason"],
            origin=Origin(fields["origin"]),
            source=fields["source"],
            as_of_us=fields["as_of_us"],
            seq=fields["seq"],
            fetched_us=fields["fetched_us"],
            is_stale=fields["stale"],
        )
    except (KeyError, TypeError, ValueError, KeyFormatError) as error:
        raise ValueError(f"not an identity of version 1: {error!r}") from error
