"""What an index is told, made of the messages of `repos` and `latest.*`. Pure.

The contract: `schemas/README.md`, and the entries of the two topics in `schemas/topics`.
"""

import base64
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

import orjson

from pipelines.kafka.messages import InputMessage


class Sync(StrEnum):
    """What the records of a repository are worth; the field `sync` of `repos`."""

    UNKNOWN = "unknown"  # there are none: nothing was seen, or the account was deleted
    SYNCHRONIZED = "synchronized"  # exactly those of its newest signed commit
    DESYNCHRONIZED = "desynchronized"  # exactly those of an older one: something is missing since
    APPLYING = "applying"  # being repaired: some are those of a newer commit already


class Put(NamedTuple):
    """A record is there, or has another content.

    Attributes:
        uri: `at://<did>/<collection>/<rkey>`.
        did: the repository.
        collection: NSID.
        rkey: record key in the collection.
        rev: revision of the commit that wrote it.
        cid: CID of the record block, as text.
        prev: CID of the record before this change; None where there was none. Who reads from the
            beginning may not have seen that one: of each record only the last message is kept.
        record: the record as AT JSON, whatever its author wrote; None where `record_error` says
            why. Integers may be larger than 2^53.
        record_error: why there is no JSON, or None (`schemas/README.md`, "Records without JSON").
        record_cbor: the record block where there is no JSON; None otherwise, and for one that is
            too large.
        received_us: when its frame was received, or its repository fetched, microseconds since
            the epoch.
        is_live: whether it came with the event stream, and not from a repair or a backfill.
    """

    uri: str
    did: str
    collection: str
    rkey: str
    rev: str
    cid: str
    prev: str | None
    record: dict[str, Any] | None
    record_error: str | None
    record_cbor: bytes | None
    received_us: int
    is_live: bool

    def replaces(self, held_rev: str | None) -> bool:
        """Tells whether this is newer than the record that an index has at its address.

        It always is, unless the collection got a topic of its own, or lost it: then two topics
        have its records, and nothing orders their messages but the revision. Of one revision the
        later message counts, as a repair may correct a record without a new commit.

        Args:
            held_rev: `rev` of that record; None if there is none.
        """
        return held_rev is None or held_rev <= self.rev


class Delete(NamedTuple):
    """A record is gone; an index may never have had it.

    Attributes:
        uri: `at://<did>/<collection>/<rkey>`.
        did: the repository.
        collection: NSID.
        rkey: record key in the collection.
        rev: revision of the commit that deleted it; of a deleted account, the last one before.
        prev: CID of the record that is gone, as text; None where it is not known.
        is_live: whether it came with the event stream, and not from a repair.
    """

    uri: str
    did: str
    collection: str
    rkey: str
    rev: str
    prev: str | None
    is_live: bool

    def replaces(self, held_rev: str | None) -> bool:
        """Tells whether the record that an index has at this address has to go.

        Args:
            held_rev: `rev` of that record; None if there is none.
        """
        return held_rev is not None and held_rev <= self.rev


class AccountChanged(NamedTuple):
    """Whether an account's records may be shown, and what they are worth.

    An index hears of every account whatever its collections are, the first time in each run also
    of those that are as they were.

    Attributes:
        did: the account.
        is_active: whether its records may be shown at all.
        status: why not (deleted, deactivated, takendown, suspended, …: an open set), or None. May
            be set although it is active.
        sync: what its records are worth.
        deleted_rev: the last revision that went with a deletion of the account, or None. Records
            up to it are gone or going, also where their `Delete` is still to come.
    """

    did: str
    is_active: bool
    status: str | None
    sync: Sync
    deleted_rev: str | None

    def shows(self, rev: str) -> bool:
        """Tells whether a record of the account may be shown.

        Args:
            rev: of the record.
        """
        return self.is_active and (self.deleted_rev is None or self.deleted_rev < rev)


Change: TypeAlias = Put | Delete | AccountChanged


def collection_of(message: InputMessage) -> str:
    """Returns the collection that a message of `latest.*` is of."""
    return dict(message.headers)["collection"].decode()


def record_change(message: InputMessage) -> Put | Delete | None:
    """Takes a message of `latest.*` apart.

    Args:
        message: as compact writes it.

    Returns:
        The change. None if nothing changes: the record is in another topic, that is all.

    Raises:
        ValueError: it is no JSON.
        KeyError: something is missing that the contract promises.
    """
    headers = dict(message.headers)
    assert message.key is not None
    uri = message.key.decode()
    did, collection = headers["did"].decode(), headers["collection"].decode()
    rev, is_live = headers["rev"].decode(), headers["live"] == b"true"
    rkey = uri.rpartition("/")[2]
    prev = headers.get("prev")
    prev_cid = None if prev is None else prev.decode()
    if message.value is None:
        if headers["operation"] == b"move":
            return None
        return Delete(uri, did, collection, rkey, rev, prev_cid, is_live)
    value = orjson.loads(message.value)
    cbor = value["record_cbor"]
    return Put(
        uri,
        did,
        collection,
        rkey,
        rev,
        headers["cid"].decode(),
        prev_cid,
        value["record"],
        value["record_error"],
        None if cbor is None else base64.b64decode(cbor),
        value["received_us"],
        is_live,
    )


def account_change(message: InputMessage) -> AccountChanged:
    """Takes a message of `repos` apart.

    Args:
        message: as compact writes it; it is never a null.

    Raises:
        ValueError: it is no JSON, or has a state of a later version.
        KeyError: something is missing that the contract promises.
    """
    value = orjson.loads(message.value or b"")
    return AccountChanged(
        value["did"],
        value["active"],
        value["status"],
        Sync(value["sync"]),
        value["deleted_rev"],
    )
